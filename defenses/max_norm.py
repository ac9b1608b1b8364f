"""Noise along each gradient at the cut, so that all are as long as the longest one on average.

Reference: Li et al., Label leakage and protection in two-party split learning, ICLR 2022, arXiv:2102.08504, section 4.1
(the heuristic `max_norm`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import ActivationDefense


class MaxNorm(ActivationDefense):
    """Stretches each example's gradient at the cut by a random factor, so that norms tell less of labels.

    g' = g (1 + s n), n ~ N(0, 1), s^2 = max ||g||^2 / ||g||^2 - 1, where the maximum is over the batch

    Then E ||g'||^2 = max ||g||^2 for every example. A gradient of zero stays zero.

    Cost:
        A norm and a random number for each gradient.

    Limits:
        A heuristic without options: the gradient stays on its line, though noise may turn it around, and the longest
        one stays as it is.

    Reference: Li et al., ICLR 2022, arXiv:2102.08504
    """

    def perturb(
        self, gradients: Float[Tensor, "batch *shape"], labels: Tensor, *, generator: torch.Generator
    ) -> Float[Tensor, "batch *shape"]:
        squares = gradients.flatten(1).double().square().sum(1)
        ratios = torch.where(squares > 0, squares.max() / squares.clamp_min(1e-300), 1)
        draws = torch.randn(len(squares), generator=generator, dtype=torch.float64).to(squares)
        factors = 1 + (ratios - 1).clamp_min(0).sqrt() * draws
        return gradients * factors.to(gradients).view(-1, *[1] * (gradients.ndim - 1))
