"""A task: classes in an order, of which a far one is a worse answer than a near one."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsec.tasks import Strata, Task


@dataclass(frozen=True)
class Ordinal(Task):
    """Classes in an order, learned as the number of the class.

    Args:
        num_classes: of the data.
    """

    num_classes: int

    name: ClassVar[str] = "ordinal"
    target_dtype: ClassVar[torch.dtype] = torch.int64
    has_strata: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("mean_absolute_error",)

    @classmethod
    def of_data(cls, num_classes: int) -> "Ordinal":
        return cls(num_classes)

    @property
    def outputs(self) -> int:
        return 1

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets).abs()

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"mean_absolute_error": (outputs.squeeze(-1).round() - targets).abs().mean().item()}

    def strata(self, targets: Tensor) -> Strata:
        return Strata(targets.numpy(), self.num_classes)
