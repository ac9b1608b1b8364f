"""Gaussian noise on gradients at the cut of a network, the same for all examples.

Reference: Li et al., Label leakage and protection in two-party split learning, ICLR 2022, arXiv:2102.08504 (the
baseline `iso`).
"""

from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import ActivationDefense
from fedsec.errors import InputError


class CutNoise(ActivationDefense):
    """Adds isotropic Gaussian noise to each example's gradient at the cut.

    g' = g + N(0, scale / d * max ||g||^2 I), where the maximum is over the batch and d is the length of g

    Args:
        scale: the noise's expected squared norm, in squared norms of the longest gradient.

    Raises:
        InputError: a scale that is negative.

    Cost:
        As many random numbers as gradients have entries.

    Limits:
        Most of the noise lies in directions in which labels make no difference; `marvell` puts it where they do. It is
        no differential privacy: the scale is read off the batch, and nothing is accounted.

    Reference: Li et al., ICLR 2022, arXiv:2102.08504
    """

    def __init__(self, scale: float = 1.0) -> None:
        if not (isfinite(scale) and scale >= 0):
            raise InputError(f"CutNoise: scale must not be negative, not {scale}")
        self.scale = scale

    def perturb(
        self, gradients: Float[Tensor, "batch *shape"], labels: Tensor, *, generator: torch.Generator
    ) -> Float[Tensor, "batch *shape"]:
        rows = gradients.flatten(1)
        deviation = rows.norm(dim=1).max() * (self.scale / rows.shape[1]) ** 0.5
        noise = torch.randn(gradients.shape, generator=generator, dtype=torch.float64).to(gradients)
        noisy: Tensor = gradients + deviation * noise
        return noisy
