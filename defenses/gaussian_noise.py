"""Gaussian noise on every entry of an update.

Without a bound on the update's norm and without accounting this is a heuristic and no differential privacy.

Reference: Zhu, Liu, Han, Deep leakage from gradients, NeurIPS 2019, arXiv:1906.08935 (section 5.1).
"""

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from fedsec.defense.norms import euclidean_norm
from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform, whole_columns
from fedsec.errors import InputError
from fedsec.threat import Distortion


class GaussianNoise(UpdateTransform):
    """Adds independent Gaussian noise to every entry; by itself no differential privacy.

    u + std N(0, 1), with `relative` u + std rms(u) N(0, 1), where rms(u) is over all parameters together

    An attacker who knows it weighs parameters by their noise and trusts its prior the more, the more noise there is.

    Args:
        std: standard deviation, in the update's own units or, with `relative`, in those of its root mean square; not
            negative.
        relative: whether the noise is proportional to the update.

    Raises:
        InputError: the deviation is out of range.

    Cost:
        d random numbers for each client.

    Limits:
        It proves nothing: lengths are not bounded, and nobody keeps an account. Noise that hides one client's images
        averages out over n clients to 1 / sqrt(n) of it.

    Example:
        std: 1.0
        relative: true

    Reference: Zhu et al., NeurIPS 2019, arXiv:1906.08935
    """

    guarantee = "none: lengths are not bounded, and nobody keeps an account"
    draws = True

    def __init__(self, std: float, relative: bool = False) -> None:
        if not (isfinite(std) and std >= 0):
            raise InputError(f"GaussianNoise: std must be finite and not negative, not {std}")
        self.std, self.relative = std, relative

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        std = self.std * (_root_mean_square(update) if self.relative else 1.0)
        noisy = {}
        for name, row in update.items():
            noise = torch.randn(row.shape, generator=generator)
            wide = row.to(torch.promote_types(row.dtype, torch.float32))
            largest = torch.finfo(row.dtype).max
            # A sum beyond the largest number is sent as that one: what was finite stays so.
            noisy[name] = (wide + std * noise.to(wide)).clamp(-largest, largest).to(row)
        return noisy

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        if not self.relative:
            noise = later.reduced(dict.fromkeys(sent, self.std))
            return Distortion(noise=noise, ceiling=later.left(noise))
        if later.signs:
            return Distortion()
        # The noise adds its own share to the root mean square that an attacker sees.
        std = self.std / (1 + self.std**2) ** 0.5 * _root_mean_square_before(sent, later)
        noise = dict.fromkeys(sent, std)
        return Distortion(noise=noise, ceiling=later.left(noise))

    def known_of_sum(self, names: Sequence[str], share: float) -> Distortion | None:
        return None if self.relative else Distortion(noise=dict.fromkeys(names, share * self.std))


def _root_mean_square(update: Mapping[str, Tensor]) -> float:
    count = sum(row.numel() for row in update.values())
    square = sum(float(row.double().square().sum()) for row in update.values())
    return float((square / count) ** 0.5) if isfinite(square) else euclidean_norm(update.values()) / float(count**0.5)


def _root_mean_square_before(sent: Mapping[str, Tensor], later: Distortion) -> float:
    """Root mean square before others dropped entries and added noise, as far as what they left tells.

    Columns were dropped whatever they held; single entries because they are small: they are taken for uniform between
    zero and the least that was kept.
    """
    square, unseen, thresholds = 0.0, 0, []
    for name, row in sent.items():
        mask = later.kept.get(name, torch.ones_like(row, dtype=torch.bool))
        values = row[mask].double()
        added = later.noise.get(name, 0.0) ** 2
        seen, dropped = max(0.0, float(values.square().sum()) - added * len(values)), row.numel() - len(values)
        square += seen
        if not len(values):
            unseen += dropped
        elif whole_columns(mask):
            square += dropped * seen / len(values)
        else:
            thresholds.append(float(values.abs().min()))
            square += dropped * thresholds[-1] ** 2 / 3
    square += unseen * min(thresholds, default=0.0) ** 2 / 3
    return float((square / sum(row.numel() for row in sent.values())) ** 0.5)
