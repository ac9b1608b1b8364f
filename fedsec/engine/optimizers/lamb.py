"""LAMB: Adam's directions, layer by layer as long as the layer's own length times the rate.

You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh: Large Batch Optimization for Deep Learning:
Training BERT in 76 minutes. ICLR 2020, arXiv:1904.00962, Algorithm 2, with phi(z) = z and eps 1e-6. Every parameter of
a network is a layer. As in the authors' code, a layer without length takes the ratio of lengths for one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.optimizers.layers import LayerSpans
from fedsec.engine.optimizers.moments import Moments
from fedsec.engine.optimizers.optimizer import Rule


class Lamb(Moments):
    """w <- w - lr ||w|| / ||u|| u, layer by layer, with u = m / (sqrt(v) + eps) + decay w, both without bias.

    Reference: You et al. 2020, arXiv:1904.00962
    """

    EPS = 1e-6

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule, layers: Sequence[int] = ()) -> None:
        super().__init__(rows, rule, layers)
        self._layers = LayerSpans(self.layers, rows.device)

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        rows = self.rows[: len(gradients)]
        first, second, first_bias, second_bias = self._follow(gradients)
        denominator = torch.sqrt(second).mul_(first_bias / second_bias.sqrt()).add_(first_bias * self.EPS)
        torch.div(first, denominator, out=gradients)
        if self.rule.weight_decay:
            gradients.add_(rows, alpha=self.rule.weight_decay)
        lengths, moved = self._layers.norms(rows), self._layers.norms(gradients)
        ratios = torch.where((lengths > 0) & (moved > 0), lengths / moved, 1)
        rows.sub_(gradients.mul_(self._layers.spread(ratios * self.lr)))
