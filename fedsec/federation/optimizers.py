"""Local optimizers as a few operations in place on many models at once, or on one.

PyTorch's conventions, without `torch.optim`, whose first use loads a compiler, for seconds. How many steps there were
lies on the device, so that a step is the same program every time and can be captured in a CUDA graph.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.federation.batches import LocalTraining


class Optimizer(ABC):
    """Moves the rows of a matrix (or one vector) along their gradients.

    Args:
        rows: what is trained, in place.
        local: learning rate, momentum and weight decay.
    """

    def __init__(self, rows: Float[Tensor, "*clients parameters"], local: LocalTraining) -> None:
        self.rows, self.local = rows, local

    @abstractmethod
    def reset(self) -> None:
        """Forget everything, as a client does that starts a round."""

    @abstractmethod
    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        """Move the first rows, as many as there are gradients; these are overwritten.

        Rows that stop early do so for good: all that are active have done the same number of steps.
        """

    def _active(self, gradients: Tensor) -> Tensor:
        """The rows that move, after the penalty on them joined the gradients."""
        rows = self.rows[: len(gradients)]
        if self.local.weight_decay:
            gradients.add_(rows, alpha=self.local.weight_decay)
        return rows


class SGD(Optimizer):
    """SGD with heavy-ball momentum (no dampening) and weight decay."""

    def __init__(self, rows: Float[Tensor, "*clients parameters"], local: LocalTraining) -> None:
        super().__init__(rows, local)
        self.momentum = torch.zeros_like(rows) if local.momentum else None

    def reset(self) -> None:
        if self.momentum is not None:
            self.momentum.zero_()

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        rows = self._active(gradients)
        if self.momentum is not None:
            gradients = self.momentum[: len(gradients)].mul_(self.local.momentum).add_(gradients)
        rows.add_(gradients, alpha=-self.local.lr)


class Adam(Optimizer):
    """Adam with an L2 penalty: betas 0.9 and 0.999, eps 1e-8.

    Reference: Kingma, Ba: Adam: A Method for Stochastic Optimization. ICLR 2015, arXiv:1412.6980
    """

    BETAS, EPS = (0.9, 0.999), 1e-8

    def __init__(self, rows: Float[Tensor, "*clients parameters"], local: LocalTraining) -> None:
        super().__init__(rows, local)
        self.first, self.second = torch.zeros_like(rows), torch.zeros_like(rows)
        # beta^t for both moments; float64, since 1 - 0.999^t loses three digits when t is small.
        self.powers = torch.ones(2, dtype=torch.float64, device=rows.device)
        self.betas = torch.tensor(self.BETAS, dtype=torch.float64, device=rows.device)

    def reset(self) -> None:
        for state in (self.first, self.second):
            state.zero_()
        self.powers.fill_(1)

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        rows, active = self._active(gradients), len(gradients)
        first, second = self.first[:active], self.second[:active]
        self.powers.mul_(self.betas)
        first_bias, second_bias = (1 - self.powers).unbind()
        first.lerp_(gradients, 1 - self.BETAS[0])
        second.mul_(self.BETAS[1]).addcmul_(gradients, gradients, value=1 - self.BETAS[1])
        # lr m / b1 / (sqrt(v / b2) + eps), with the scalars drawn into the denominator: one pass over it less.
        scale = first_bias / self.local.lr
        denominator = torch.sqrt(second).mul_(scale / second_bias.sqrt()).add_(scale * self.EPS)
        rows.addcdiv_(first, denominator, value=-1)


def optimizer(rows: Float[Tensor, "*clients parameters"], local: LocalTraining) -> Optimizer:
    """The optimizer that local training asks for."""
    return Adam(rows, local) if local.optimizer == "adam" else SGD(rows, local)
