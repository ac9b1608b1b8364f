"""NVFlare's `PercentilePrivacy`: the largest entries of an update, cut off at a bound. It adds no noise.

Reference: Shokri, Shmatikov, Privacy-preserving deep learning, CCS 2015, proposes to share the largest gradients; its
differential privacy comes from noise that is left out here, as it is in NVFlare. As in NVFlare 2.8.1,
`nvflare/app_common/filters/percentile_privacy.py`, unchanged since 2022.

Deviation: the number of local steps is an option; NVFlare reads it from the message, and takes 1 where it is not there.
NVFlare sends nothing at all where percentile or gamma is out of range; here that is refused.
"""

from collections.abc import Mapping
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.threat import Distortion


class PercentilePrivacy(UpdateTransform):
    """Sends the entries above a percentile of magnitude, cut off at gamma; called private, it guarantees nothing.

    steps clip(u / steps, -gamma, gamma) where |u / steps| >= the p-th percentile of all magnitudes, otherwise 0

    Nothing is random, so no epsilon holds: two updates that differ are told apart with certainty wherever what is sent
    of them differs. By default 90% of the entries are sent as they are, up to gamma. Parameters that are single numbers
    (scalars) are sent untouched. An attacker who knows it compares the entries that were neither dropped nor cut off,
    or, where most were cut off, their signs.

    Args:
        percentile: share of the entries, in percent, that is dropped for being small; 0 to 100.
        gamma: the bound for a single entry of an update that was divided by its local steps; positive.
        local_steps: what the update is divided by before gamma applies, and multiplied with after it.

    Raises:
        InputError: a number out of range.

    Cost:
        A partial sort of a client's own update.

    Limits:
        It bounds entries and adds no noise: images are recovered from what is left (docs/deployed_filters.md).

    Example:
        percentile: 10

    Reference: Shokri & Shmatikov, CCS 2015, without its noise
    """

    guarantee = "none: no noise is added, so two updates can be told apart with certainty"
    called_private = True

    def __init__(self, percentile: float = 10, gamma: float = 0.01, local_steps: int = 1) -> None:
        if not 0 <= percentile <= 100:
            raise InputError(f"PercentilePrivacy: percentile must lie in [0, 100], not {percentile}")
        if not (isfinite(gamma) and gamma > 0):
            raise InputError(f"PercentilePrivacy: gamma must be positive and finite, not {gamma}")
        if local_steps < 1:
            raise InputError(f"PercentilePrivacy: local_steps must be at least 1, not {local_steps}")
        self.percentile, self.gamma, self.local_steps = percentile, gamma, local_steps

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        wide = {name: row.to(torch.promote_types(row.dtype, torch.float32)) for name, row in update.items()}
        steps = {name: row / self.local_steps for name, row in wide.items()}
        magnitudes = [row.abs().flatten().cpu().numpy() for row in steps.values()]
        cutoff = float(np.percentile(np.concatenate(magnitudes), self.percentile))
        sent = dict(update)
        for name, row in steps.items():
            if row.ndim:
                shared = torch.where(row.abs() < cutoff, 0.0, row).clamp(-self.gamma, self.gamma)
                sent[name] = (shared * self.local_steps).to(update[name])
        return sent

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        shared, cut_off = dict[str, Tensor](), dict[str, Tensor]()
        for name, row in sent.items():
            scalar = torch.full_like(row, row.ndim == 0, dtype=torch.bool)
            slack = 1 - 4 * torch.finfo(row.dtype).eps
            shared[name] = (row != 0) | scalar
            cut_off[name] = (row.abs().double() >= self.gamma * self.local_steps * slack) & ~scalar
        untouched = not (later.signs or later.rescaled or later.noise or later.kept)
        if not untouched:
            return Distortion(shared)
        number = sum(int(mask.sum()) for mask in shared.values())
        if 2 * sum(int(mask.sum()) for mask in cut_off.values()) > number:
            return Distortion(shared, signs=True)
        return Distortion({name: mask & ~cut_off[name] for name, mask in shared.items()}, limit=_limits(sent, cut_off))


def _limits(sent: Mapping[str, Tensor], cut_off: Mapping[str, Tensor]) -> dict[str, float]:
    """By parameter without entries that were cut off, the least magnitude sent, which nothing that was dropped exceeds.

    One cutoff holds for all parameters.
    """
    least = [row[row != 0].abs().min() for row in sent.values() if row.ndim and bool((row != 0).any())]
    if not least:
        return {}
    limit = float(torch.stack([value.double() for value in least]).min())
    partly = [name for name, row in sent.items() if bool((row == 0).any()) and not bool(cut_off[name].any())]
    return dict.fromkeys(partly, limit)
