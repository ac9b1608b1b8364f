"""Adam."""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.optimizers.moments import Moments


class Adam(Moments):
    """Adam with an L2 penalty: betas 0.9 and 0.999, eps 1e-8.

    Reference: Kingma, Ba: Adam: A Method for Stochastic Optimization. ICLR 2015, arXiv:1412.6980
    """

    EPS = 1e-8

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        rows = self._active(gradients)
        first, second, first_bias, second_bias = self._follow(gradients)
        # lr m / b1 / (sqrt(v / b2) + eps), with the scalars drawn into the denominator: one pass over it less.
        scale = first_bias / self.lr
        denominator = torch.sqrt(second).mul_(scale / second_bias.sqrt()).add_(scale * self.EPS)
        rows.addcdiv_(first, denominator, value=-1)
