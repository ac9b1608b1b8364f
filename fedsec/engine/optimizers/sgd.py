"""Stochastic gradient descent."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.optimizers.optimizer import Optimizer, Rule


class SGD(Optimizer):
    """SGD with heavy-ball momentum (no dampening) and weight decay."""

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule, layers: Sequence[int] = ()) -> None:
        super().__init__(rows, rule, layers)
        self.momentum = torch.zeros_like(rows) if rule.momentum else None

    def reset(self) -> None:
        if self.momentum is not None:
            self.momentum.zero_()

    def state(self) -> dict[str, Tensor]:
        return {} if self.momentum is None else {"momentum": self.momentum}

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        rows = self._active(gradients)
        if self.momentum is not None:
            gradients = self.momentum[: len(gradients)].mul_(self.rule.momentum).add_(gradients)
        rows.add_(gradients, alpha=-self.lr)
