"""LARS: layers move by a share of their own length, so that large batches can take large rates.

You, Gitman, Ginsburg: Large Batch Training of Convolutional Networks. 2017, arXiv:1708.03888, Algorithm 1. Every
parameter of a network (a weight, a bias) is a layer, as in the authors' code. Where we deviate: a layer without length,
as biases are at first, or without gradient takes the ratio of lengths for one, where Algorithm 1 would never move it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.optimizers.layers import LayerSpans
from fedsec.engine.optimizers.optimizer import Optimizer, Rule


class Lars(Optimizer):
    """v <- momentum v + lr 0.001 ||w|| / (||g|| + decay ||w||) (g + decay w); w <- w - v, layer by layer.

    Unlike in SGD the rate is within the momentum.

    Reference: You et al. 2017, arXiv:1708.03888
    """

    TRUST = 0.001

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule, layers: Sequence[int] = ()) -> None:
        super().__init__(rows, rule, layers)
        self._layers = LayerSpans(self.layers, rows.device)
        self.momentum = torch.zeros_like(rows) if rule.momentum else None

    def reset(self) -> None:
        if self.momentum is not None:
            self.momentum.zero_()

    def state(self) -> dict[str, Tensor]:
        return {} if self.momentum is None else {"momentum": self.momentum}

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        lengths, slopes = self._layers.norms(self.rows[: len(gradients)]), self._layers.norms(gradients)
        ratios = lengths / (slopes + self.rule.weight_decay * lengths)
        ratios = torch.where((lengths > 0) & (slopes > 0), ratios, 1)
        rows = self._active(gradients)
        gradients.mul_(self._layers.spread(ratios * (self.lr * self.TRUST)))
        if self.momentum is not None:
            gradients = self.momentum[: len(gradients)].mul_(self.rule.momentum).add_(gradients)
        rows.sub_(gradients)
