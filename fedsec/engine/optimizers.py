"""Local optimizers as a few operations in place on many models at once, or on one.

PyTorch's conventions, without `torch.optim`, whose first use loads a compiler, for seconds. How many steps there were
lies on the device, so that a step is the same program every time and can be captured in a CUDA graph.
"""

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Rule(Protocol):
    """What an optimizer goes by; `LocalTraining` and `ServerTraining` are such."""

    @property
    def optimizer(self) -> Literal["sgd", "adam"]:
        """Which one."""

    @property
    def lr(self) -> float:
        """Learning rate to begin with."""

    @property
    def momentum(self) -> float:
        """Of SGD: heavy-ball, no dampening."""

    @property
    def weight_decay(self) -> float:
        """L2 penalty added to the gradient."""


class Optimizer(ABC):
    """Moves the rows of a matrix (or one vector) along their gradients.

    Args:
        rows: what is trained, in place.
        rule: learning rate, momentum and weight decay.

    Attributes:
        lr: learning rate of the steps to come; whoever changes it must throw recorded steps away.
    """

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule) -> None:
        self.rows, self.rule, self.lr = rows, rule, rule.lr

    @abstractmethod
    def reset(self) -> None:
        """Forget all past steps, as a client does that starts a round; the learning rate stays."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that past steps have left, by name; not copies. What has a value for each parameter is in their shape."""

    @abstractmethod
    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        """Move the first rows, as many as there are gradients; these are overwritten.

        Rows that stop early do so for good: all that are active have done the same number of steps.
        """

    def _active(self, gradients: Tensor) -> Tensor:
        """The rows that move, after the penalty on them joined the gradients."""
        rows = self.rows[: len(gradients)]
        if self.rule.weight_decay:
            gradients.add_(rows, alpha=self.rule.weight_decay)
        return rows


class SGD(Optimizer):
    """SGD with heavy-ball momentum (no dampening) and weight decay."""

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule) -> None:
        super().__init__(rows, rule)
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


class Adam(Optimizer):
    """Adam with an L2 penalty: betas 0.9 and 0.999, eps 1e-8.

    Reference: Kingma, Ba: Adam: A Method for Stochastic Optimization. ICLR 2015, arXiv:1412.6980
    """

    BETAS, EPS = (0.9, 0.999), 1e-8

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule) -> None:
        super().__init__(rows, rule)
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

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "*active parameters"]) -> None:
        rows, active = self._active(gradients), len(gradients)
        first, second = self.first[:active], self.second[:active]
        self.powers.mul_(self.betas)
        first_bias, second_bias = (1 - self.powers).unbind()
        first.lerp_(gradients, 1 - self.BETAS[0])
        second.mul_(self.BETAS[1]).addcmul_(gradients, gradients, value=1 - self.BETAS[1])
        # lr m / b1 / (sqrt(v / b2) + eps), with the scalars drawn into the denominator: one pass over it less.
        scale = first_bias / self.lr
        denominator = torch.sqrt(second).mul_(scale / second_bias.sqrt()).add_(scale * self.EPS)
        rows.addcdiv_(first, denominator, value=-1)


def optimizer(rows: Float[Tensor, "*clients parameters"], rule: Rule) -> Optimizer:
    """The optimizer that a training asks for."""
    return Adam(rows, rule) if rule.optimizer == "adam" else SGD(rows, rule)
