"""Classification: one of several classes for each example, learned with cross-entropy."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.tasks.task import Strata, Task

LOSS_BATCH = 500
"""Examples whose losses are summed in the model's own precision before float64 takes over."""


@dataclass(frozen=True)
class Classification(Task):
    """One of several classes for each example, learned with cross-entropy on logits.

    Args:
        num_classes: of the data; None where the model's own number of logits counts.

    Raises:
        InputError: fewer than two classes.
    """

    num_classes: int | None = None

    name: ClassVar[str] = "classification"
    target_dtype: ClassVar[torch.dtype] = torch.int64
    output_noun: ClassVar[str] = "logits"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    has_strata: ClassVar[bool] = True
    strata_metrics: ClassVar[tuple[str, ...]] = ("per_class_accuracy",)

    def __post_init__(self) -> None:
        if self.num_classes is not None and self.num_classes < 2:
            raise InputError(f"classification: at least two classes are needed, got {self.num_classes}")

    @classmethod
    def of_data(cls, num_classes: int) -> Self:
        return cls(num_classes)

    @property
    def outputs(self) -> int | None:
        return self.num_classes

    def losses(
        self, outputs: Float[Tensor, "batch classes"], targets: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        """Cross-entropy of each example."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def smoothed(self, label_smoothing: float) -> "Classification":
        return SmoothedClassification(self.num_classes, label_smoothing) if label_smoothing else self

    def measure(
        self, outputs: Float[Tensor, "examples classes"], targets: Int64[Tensor, "examples"]
    ) -> dict[str, float]:
        """The share of examples that get their own class, and the mean cross-entropy."""
        loss = torch.zeros((), dtype=torch.float64, device=outputs.device)
        for begin in range(0, len(targets), LOSS_BATCH):
            part = slice(begin, begin + LOSS_BATCH)
            loss += F.cross_entropy(outputs[part], targets[part], reduction="sum")
        hits = outputs.argmax(1) == targets
        return {"accuracy": hits.double().mean().item(), "loss": (loss / len(targets)).item()}

    def measure_strata(
        self, outputs: Float[Tensor, "examples classes"], targets: Int64[Tensor, "examples"]
    ) -> dict[str, tuple[float, ...]]:
        """The recall of each class."""
        classes = self.num_classes or outputs.shape[1]
        hits = outputs.argmax(1) == targets
        right, total = (torch.bincount(labels, minlength=classes).double() for labels in (targets[hits], targets))
        return {"per_class_accuracy": tuple((right / total).tolist())}

    def constant_outputs(self, targets: Int64[Tensor, "examples"]) -> Float[Tensor, "examples classes"]:
        """The most frequent class."""
        return F.one_hot(targets.bincount().argmax(), int(targets.max()) + 1).double().expand(len(targets), -1)

    def strata(self, targets: Int64[Tensor, "examples"]) -> Strata:
        """The classes."""
        labels = targets.cpu().numpy()
        return Strata(labels, self.num_classes or int(labels.max(initial=0)) + 1)

    def check_targets(self, targets: Int64[Tensor, "examples"]) -> None:
        """Refuse what is no class.

        Raises:
            InputError: another dtype, or a label without a class.
        """
        super().check_targets(targets)
        low, high = (int(targets.min()), int(targets.max())) if len(targets) else (0, 0)
        if low < 0 or (self.num_classes is not None and high >= self.num_classes):
            expected = "expected 0 or more" if self.num_classes is None else f"expected 0..{self.num_classes - 1}"
            raise InputError(f"classification: labels run from {low} to {high}; {expected}")


@dataclass(frozen=True)
class SmoothedClassification(Classification):
    """Classification as it is trained with smoothed labels: (1 - s) cross-entropy - s / K sum_k log p_k.

    What is measured stays the plain loss.

    Args:
        label_smoothing: s.

    Reference: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, arXiv:1512.00567
    """

    label_smoothing: float = 0.0

    def losses(
        self, outputs: Float[Tensor, "batch classes"], targets: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.label_smoothing)
