"""Local optimizers as a few operations in place on many models at once, or on one.

PyTorch's conventions, without `torch.optim`, whose first use loads a compiler, for seconds. How many steps there were
lies on the device, so that a step is the same program every time and can be captured in a CUDA graph.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

OptimizerName = Literal["sgd", "adam", "lars", "lamb"]


class Rule(Protocol):
    """What an optimizer goes by; `LocalTraining` and `ServerTraining` are such."""

    @property
    def optimizer(self) -> OptimizerName:
        """Which one."""

    @property
    def lr(self) -> float:
        """Learning rate to begin with."""

    @property
    def momentum(self) -> float:
        """Of SGD and LARS: heavy-ball, no dampening."""

    @property
    def weight_decay(self) -> float:
        """L2 penalty added to the gradient; with LAMB, to the step."""


class Optimizer(ABC):
    """Moves the rows of a matrix (or one vector) along their gradients.

    Args:
        rows: what is trained, in place.
        rule: learning rate, momentum and weight decay.
        layers: how many parameters each layer has, in their order, for those that look at layers; all in one, if not
            given.

    Attributes:
        lr: learning rate of the steps to come; whoever changes it must throw recorded steps away.
    """

    def __init__(self, rows: Float[Tensor, "*clients parameters"], rule: Rule, layers: Sequence[int] = ()) -> None:
        self.rows, self.rule, self.lr = rows, rule, rule.lr
        self.layers = list(layers) or [rows.shape[-1]]

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
