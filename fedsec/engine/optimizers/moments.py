"""What Adam and LAMB have in common: running averages of gradients and of their squares."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.optimizers.optimizer import Optimizer, Rule


class Moments(Optimizer):
    """An optimizer that goes by the first two moments of the gradients: betas 0.9 and 0.999."""

    BETAS = (0.9, 0.999)

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule, layers: Sequence[int] = ()) -> None:
        super().__init__(rows, rule, layers)
        self.first, self.second = torch.zeros_like(rows), torch.zeros_like(rows)
        # beta^t for both moments; float64, since 1 - 0.999^t loses three digits when t is small.
        self.powers = torch.ones(2, dtype=torch.float64, device=rows.device)
        self.betas = torch.tensor(self.BETAS, dtype=torch.float64, device=rows.device)

    def reset(self) -> None:
        for state in (self.first, self.second):
            state.zero_()
        self.powers.fill_(1)

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second, "powers": self.powers}

    def _follow(self, gradients: Float[Tensor, "*active parameters"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both moments of the active rows after their new gradients, and by what each is too small: 1 - beta^t."""
        active = len(gradients)
        first, second = self.first[:active], self.second[:active]
        self.powers.mul_(self.betas)
        first_bias, second_bias = (1 - self.powers).unbind()
        first.lerp_(gradients, 1 - self.BETAS[0])
        second.mul_(self.BETAS[1]).addcmul_(gradients, gradients, value=1 - self.BETAS[1])
        return first, second, first_bias, second_bias
