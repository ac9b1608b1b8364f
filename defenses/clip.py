"""Norm bounding: an update longer than a limit is shortened to it.

Reference: Sun, Kairouz, Suresh, McMahan, Can you really backdoor federated learning?, 2019, arXiv:1911.07963.
"""

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import Distortion
from fedsec.update_defense import ClientSide, UpdateTransform


class ClipUpdate(UpdateTransform):
    """Shortens an update whose L2 norm, over all parameters, exceeds a limit.

    u min(1, C / ||u||)

    An attacker who knows it no longer trusts the length, and loses little: the direction is untouched.

    Args:
        max_norm: the limit C, in the update's own units; positive.

    Raises:
        InputError: the limit is out of range.

    Reference: Sun et al., 2019, arXiv:1911.07963
    """

    def __init__(self, max_norm: float) -> None:
        if not (isfinite(max_norm) and max_norm > 0):
            raise InputError(f"ClipUpdate: max_norm must be positive and finite, not {max_norm}")
        self.max_norm = max_norm

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        # float64: the squares of finite numbers must not overflow.
        norm = sum(float(row.double().square().sum()) for row in update.values()) ** 0.5
        if norm <= self.max_norm:
            return update
        factor = self.max_norm / norm
        return {name: (row.double() * factor).to(row) for name, row in update.items()}

    def known(self, sent: Mapping[str, Tensor]) -> Distortion:
        return Distortion(rescaled=True)
