"""The interface of clients who look at a received model before they train on it, and may refuse to."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.arithmetic import arithmetic
from fedsec.defense.inspection.example_gradients import Loss
from fedsec.errors import InputError
from fedsec.randomness import seeded
from fedsec.threat.sealed import Sealed

__all__ = ["Inspection", "ModelInspector", "ReceivedModel"]

Weights = Mapping[str, Tensor]
"""Name -> parameter, as `state_dict` has them; what is more does no harm."""


@dataclass(frozen=True)
class Inspection:
    """What a client says of a received model.

    Args:
        reasons: why it would not train on it, in words; none where it would.
        statistics: what was measured, by name; `move` is what `usual_moves` of later rounds are made of.
    """

    reasons: tuple[str, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the client does not train."""
        return bool(self.reasons)

    @property
    def verdict(self) -> Literal["train", "refuse"]:
        """What the client does."""
        return "refuse" if self.reasons else "train"


@dataclass(frozen=True, eq=False)
class ReceivedModel:
    """What an inspector looks at.

    Attributes:
        model: a copy of what was received, in training mode; it may be run, and its buffers may change.
        expected: the architecture that was agreed upon; None where that is not known.
        previous: the weights that were received last; None where there are none.
        usual_moves: how far models moved from one round to the next, in earlier rounds.
        examples: of the client; None where nobody may look at them.
        targets: of the examples.
        loss: of each example.
    """

    model: nn.Module
    expected: nn.Module | None
    previous: Weights | None
    usual_moves: tuple[float, ...]
    examples: Float[Tensor, "batch ..."] | None
    targets: Tensor | None
    loss: Loss


class ModelInspector(Sealed, ABC):
    """Answers the question of a client whether it should train on a model.

    Attributes:
        examples: how many of the client's examples it looks at; 0 where the weights are enough for it. What depends on
            examples tells whoever hears of the verdict about them, which no account of differential privacy covers.
    """

    role: ClassVar[str] = "inspection"
    """Where in a round its kind acts: each client, before it trains."""
    examples: int = 0

    @final
    def inspect(
        self,
        model: nn.Module,
        examples: Float[Tensor, "batch ..."] | None = None,
        targets: Tensor | None = None,
        *,
        expected: nn.Module | None = None,
        previous: nn.Module | Weights | None = None,
        usual_moves: Sequence[float] = (),
        loss: Loss | None = None,
    ) -> Inspection:
        """Look at a model; nothing of it changes, nor does any random generator.

        Args:
            model: as received.
            examples: of the client, as the model takes them; at most `self.examples` are looked at, the first ones.
            targets: of the examples: classes, or numbers.
            expected: the architecture that was agreed upon, a model of any weights.
            previous: the model of the last round that the client heard of, or its `state_dict`.
            usual_moves: the statistic `move` of earlier rounds' inspections, for each round that passed.
            loss: (outputs, targets) -> the loss of each example; by default cross-entropy where targets are integers,
                and the squared error otherwise.

        Raises:
            InputError: no examples where some are needed, or a model that does not take them.
        """
        name = type(self).__name__
        if not isinstance(model, nn.Module):
            raise InputError(f"{name}: expected a torch.nn.Module as the received model, got {type(model).__name__}")
        if not isinstance(expected, nn.Module | None):
            raise InputError(f"{name}: expected a model as `expected`, or None, got {type(expected).__name__}")
        if not isinstance(previous, nn.Module | Mapping | None):
            raise InputError(f"{name}: expected a model or its state_dict as `previous`, got {type(previous).__name__}")
        if (examples is None) != (targets is None):
            raise InputError(f"{name}: expected examples and targets together")
        if self.examples and examples is None:
            raise InputError(
                f"{name}: some of its checks look at the client's examples; expected examples and targets, or these "
                "checks off (None)"
            )
        if examples is not None and targets is not None:
            if len(examples) != len(targets) or len(examples) == 0:
                got = f"{len(targets)}, {len(examples)}"
                raise InputError(f"{name}: expected as many targets as examples and at least one, got {got}")
            examples, targets = examples[: self.examples], targets[: self.examples]
        weights = dict(previous.state_dict()) if isinstance(previous, nn.Module) else previous
        moves = tuple(float(move) for move in usual_moves)
        if any(not move >= 0 for move in moves):
            raise InputError(f"{name}: usual_moves must be at least 0, got {list(moves)}")
        received = ReceivedModel(_copy(model, name), expected, weights, moves, examples, targets, loss or _default_loss)
        device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
        with seeded(0, device), arithmetic(device):  # as training, so that random layers draw
            return self.examine(received)

    @abstractmethod
    def examine(self, received: ReceivedModel) -> Inspection:
        """Measure, and judge."""


def _copy(model: nn.Module, name: str) -> nn.Module:
    try:
        copied = copy.deepcopy(model)
    except Exception as error:  # whatever a module's own tensors and hooks do
        raise InputError(f"{name}: the received model cannot be copied: {error}") from error
    for weight in copied.parameters():
        weight.grad = None
    return copied.train()


def _default_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if not targets.is_floating_point():
        losses = F.cross_entropy(outputs, targets.long(), reduction="none")
    else:
        losses = (outputs.reshape(targets.shape) - targets).square()
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses
