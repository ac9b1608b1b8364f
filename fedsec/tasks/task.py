"""The interface of tasks: the loss of an example, what the model puts out, what is measured, and how data are grouped.

A new task is one file with a subclass, and a row in `fedsec.tasks.TASKS`; data name it (`Source.task`), and methods
that go with some tasks only say with which (`tasks`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError


@dataclass(frozen=True, eq=False)
class Strata:
    """Groups of examples that partitions share out unevenly, such as classes.

    Args:
        of: the group of each example, in 0..count-1.
        count: how many groups there can be; some may be empty.
        superclasses: the coarse class of each group, where groups are classes that form a tree.
    """

    of: Int64[np.ndarray, "examples"]
    count: int
    superclasses: tuple[int, ...] = ()


@dataclass(frozen=True)
class Task(ABC):
    """What a model is trained to do: an immutable record without a memory.

    Attributes:
        name: in scenarios.
        target_dtype: of the targets.
        output_noun: what the model's outputs are called in messages.
        output_axes: how many axes an example's output has: one for a vector, two for logits at
            each place of a sequence, three for a map of the image's size.
        metrics: what `measure` gives, the one that sums a model up first; rows of `fedsec.metrics.metric.METRICS`.
        has_strata: whether `strata` gives groups, which a scenario asks before there are any data.
        has_quantiles: whether targets are single numbers, so that partitions may cut them into intervals of equal size.
        takes_tokens: whether inputs are the numbers of tokens, which nothing may scale or augment.
        strata_metrics: what `measure_strata` gives.
    """

    name: ClassVar[str]
    target_dtype: ClassVar[torch.dtype]
    output_noun: ClassVar[str] = "outputs"
    output_axes: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]]
    strata_metrics: ClassVar[tuple[str, ...]] = ()
    has_strata: ClassVar[bool] = False
    has_quantiles: ClassVar[bool] = False
    takes_tokens: ClassVar[bool] = False

    @classmethod
    def of_data(cls, num_classes: int) -> Self:
        """The task on certain data.

        Args:
            num_classes: of the data; 0 where targets are numbers.
        """
        return cls()

    @property
    @abstractmethod
    def outputs(self) -> int | None:
        """How many numbers the model must give for an example; None where any number does."""

    @abstractmethod
    def losses(self, outputs: Float[Tensor, "batch outputs"], targets: Tensor) -> Float[Tensor, "batch"]:
        """The loss of each example, differentiable, and of nothing but its own row: engines call it under `vmap`.

        Args:
            outputs: of the model, in the dtype of its parameters.
            targets: a row for each.
        """

    def smoothed(self, label_smoothing: float) -> "Task":
        """The same task for training, with labels of which a share is spread over all classes.

        Args:
            label_smoothing: the share; 0 for the task as it is.

        Raises:
            InputError: there is one, and the task has no classes to spread it over.
        """
        if label_smoothing:
            raise InputError(
                f"local label_smoothing spreads a label over classes, and {self.name} has none; expected 0, got "
                f"{label_smoothing:g}"
            )
        return self

    @abstractmethod
    def measure(self, outputs: Float[Tensor, "examples outputs"], targets: Tensor) -> dict[str, float]:
        """The metrics of a finished evaluation, by name.

        Args:
            outputs: of the model in evaluation mode, for the whole test set.
            targets: a row for each.
        """

    def measure_strata(
        self, outputs: Float[Tensor, "examples outputs"], targets: Tensor
    ) -> dict[str, tuple[float, ...]]:
        """Metrics that have a value for each group of examples, by name; NaN for a group without any."""
        return {}

    def constant_outputs(self, targets: Tensor) -> Float[Tensor, "examples outputs"] | None:
        """The best outputs that look at no input, which models are compared with; None where none is known.

        Args:
            targets: of the test set.
        """
        return None

    def strata(self, targets: Tensor) -> Strata | None:
        """Groups that partitions may use; None where there are none, so that only partitions by size are left."""
        return None

    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets of another kind.

        Raises:
            InputError: another dtype, or values out of range.
        """
        if targets.dtype != self.target_dtype:
            raise InputError(f"{self.name}: expected targets of {self.target_dtype}, got {targets.dtype}")

    @final
    def check_outputs(self, shape: Sequence[int], batch: int) -> None:
        """Refuse a model that gives something else.

        Args:
            shape: of what it gave.
            batch: for so many examples.

        Raises:
            InputError: another shape; says which was expected.
        """
        wanted = self.outputs
        if len(shape) == 1 + self.output_axes and shape[0] == batch and (wanted is None or shape[1] == wanted):
            return
        axes = ", ".join([str(wanted or self.output_noun), *["..."] * (self.output_axes - 1)])
        number = "" if wanted is None else f"{wanted} "
        raise InputError(
            f"the model gives an output of shape {tuple(shape)} for a batch of {batch}; expected ({batch}, {axes}): "
            f"{self.name} needs {number}{self.output_noun} for each example"
        )
