"""Clipped gradients at the cut of a network: none is longer than a bound.

Reference: the bound of Abadi et al., Deep learning with differential privacy, 2016, arXiv:1607.00133, on gradients with
respect to activations instead of parameters. Without noise it proves nothing.
"""

from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import ActivationDefense
from fedsec.errors import InputError


class CutClip(ActivationDefense):
    """Shortens each example's gradient at the cut to a bound.

    g' = g min(1, bound / ||g||)

    Args:
        bound: of each example's gradient.

    Raises:
        InputError: a bound that is not positive.

    Cost:
        A norm of each gradient.

    Limits:
        Norms tell less, where gradients are longer than the bound; directions tell as much as before.

    Example:
        bound: 0.1

    Reference: cf. Abadi et al. 2016, arXiv:1607.00133
    """

    def __init__(self, bound: float) -> None:
        if not (isfinite(bound) and bound > 0):
            raise InputError(f"CutClip: bound must be positive, not {bound}")
        self.bound = bound

    def perturb(
        self, gradients: Float[Tensor, "batch *shape"], labels: Tensor, *, generator: torch.Generator
    ) -> Float[Tensor, "batch *shape"]:
        norms = gradients.flatten(1).norm(dim=1)
        factors = (self.bound / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp(max=1)
        clipped: Tensor = gradients * factors.view(-1, *[1] * (gradients.ndim - 1))
        return clipped
