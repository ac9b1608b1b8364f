"""Norm bounding: an update longer than a limit is shortened to it.

Reference: Sun, Kairouz, Suresh, McMahan, Can you really backdoor federated learning?, 2019, arXiv:1911.07963.
"""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite, sqrt
from statistics import NormalDist

import torch
from torch import Tensor

from fedsec.defense.norms import shortened
from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform, whole_columns
from fedsec.errors import InputError
from fedsec.threat import Distortion

_SURELY_SHORTER = 0.95
"""An update that is shorter than this share of the limit was not shortened to it, whatever rounding of numbers did."""

_ENOUGH = 256
"""Entries of a parameter from which its magnitudes tell how much noise there can be."""

_SMALLEST = 0.3
"""Share of the entries that tells the noise. The images from 0.5, 0.3 and 0.2 differ by less than 0.4 dB, see below."""

_MOST_DROPPED = 0.99
"""Where more was dropped, the least that was kept lies too far out in the tail to tell noise from signal."""

_ALL_NOISE = 0.95
"""An update whose entries all look like Gaussian noise, beyond this share of its square, may as well be none of it.

Where it is noise nothing can be recovered either way; where it is not, an attacker who took it for noise would give up.

Measured on LeNet's gradients of four photographs with Inverting Gradients, Gaussian noise of 1, 30, 70 and 90 % of the
square before clipping: with the estimate 21.1, 16.2, 14.1 and 13.2 dB, with the true level 21.0, 15.8, 13.1 and 13.3,
without any 20.8, 14.7, 10.2 and 8.6, and with the level before clipping 15.8, 15.4, 14.6 and 13.9."""


class ClipUpdate(UpdateTransform):
    """Shortens an update whose L2 norm, over all parameters, exceeds a limit.

    u min(1, C / ||u||)

    An attacker who knows it no longer trusts the length, and loses little: the direction is untouched. Noise that was
    in a shortened update became smaller with it, by a factor that the attacker reads off the smallest entries.

    Args:
        max_norm: the limit C, in the update's own units; positive.

    Raises:
        InputError: the limit is out of range.

    Cost:
        Two passes over a client's own update.

    Limits:
        A Byzantine client does not apply it; `norm_bound` and `static_clip` are the server's. Images are recovered as
        well as without it, since the direction is untouched (docs/results/inversion_defenses.csv).

    Reference: Sun et al., 2019, arXiv:1911.07963
    """

    guarantee = "none: no noise is added"

    def __init__(self, max_norm: float) -> None:
        if not (isfinite(max_norm) and max_norm > 0):
            raise InputError(f"ClipUpdate: max_norm must be positive and finite, not {max_norm}")
        self.max_norm = max_norm

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        return shortened(update, self.max_norm)

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        return Distortion(rescaled=True, ceiling=self._ceiling(sent, later))

    def known_of_sum(self, names: Sequence[str], share: float) -> Distortion:
        # Each was shortened by a factor of its own, of which the sum tells nothing.
        return Distortion(rescaled=True, ceiling=0.0)

    def _ceiling(self, sent: Mapping[str, Tensor], later: Distortion) -> float | None:
        """How much noise of earlier defenses is left; None where the update was not shortened."""
        # What noise came after is known by its size only, and its square may be most of what was sent.
        cut = later.signs or later.rescaled or any(later.noise.values()) or not all(map(later.whole, sent))
        added = sum(row.numel() * later.noise.get(name, 0.0) ** 2 for name, row in sent.items())
        energy = sum(float(row.double().square().sum()) for row in sent.values()) - added
        if not cut and energy < (_SURELY_SHORTER * self.max_norm) ** 2:
            return None
        if later.signs:
            return 0.0
        large = {name: row for name, row in sent.items() if row.numel() >= _ENOUGH}
        levels = [_floor(row, later.noise.get(name, 0.0), later.kept.get(name)) for name, row in large.items()]
        ceiling = min((level for level in levels if level is not None), default=0.0)
        count = sum(row.numel() for row in sent.values())
        return 0.0 if ceiling**2 * count > _ALL_NOISE * energy else ceiling


def _floor(row: Tensor, later: float, mask: Tensor | None) -> float | None:
    """Standard deviation of Gaussian noise whose small magnitudes are as large as the row's; None if that is not seen.

    Of Gaussian magnitudes 30 % lie below 0.39 deviations, and a signal only makes magnitudes larger. Where more of the
    smallest entries were dropped, the least that was kept takes that quantile's place.
    """
    if mask is not None and whole_columns(mask):
        row = row[mask]
    if row.numel() < _ENOUGH:
        return None
    magnitudes = row.detach().flatten().double().abs()
    place = max(_SMALLEST, float((magnitudes == 0).double().mean()) + 1 / len(magnitudes))
    if place > _MOST_DROPPED:
        return None
    seen = float(magnitudes.kthvalue(ceil(place * len(magnitudes))).values) / NormalDist().inv_cdf((1 + place) / 2)
    return sqrt(max(0.0, seen**2 - later**2))
