"""Regression: a number for each example, learned with the squared error."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from fedsec.errors import InputError
from fedsec.tasks.task import Task


@dataclass(frozen=True)
class Regression(Task):
    """A number for each example, learned with the squared error of the model's one output."""

    name: ClassVar[str] = "regression"
    target_dtype: ClassVar[torch.dtype] = torch.float32
    has_quantiles: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("mean_squared_error", "mean_absolute_error")

    @property
    def outputs(self) -> int:
        return 1

    def losses(self, outputs: Float[Tensor, "batch 1"], targets: Float32[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """The squared error of each example."""
        # The axis is named from the end: under `vmap` a squeeze of every axis would take the batch of one, too.
        return (outputs.squeeze(-1) - targets).square()

    def measure(self, outputs: Float[Tensor, "examples 1"], targets: Float32[Tensor, "examples"]) -> dict[str, float]:
        """The mean squared and the mean absolute error."""
        errors = outputs.squeeze(-1).double() - targets.double()
        return {"mean_squared_error": errors.square().mean().item(), "mean_absolute_error": errors.abs().mean().item()}

    def constant_outputs(self, targets: Float32[Tensor, "examples"]) -> Float[Tensor, "examples 1"]:
        """The mean."""
        return targets.mean().expand(len(targets), 1)

    def check_targets(self, targets: Float32[Tensor, "examples"]) -> None:
        """Refuse what is no finite number.

        Raises:
            InputError: another dtype, several numbers an example, or numbers that are not finite.
        """
        super().check_targets(targets)
        if targets.ndim != 1 or not bool(targets.isfinite().all()):
            raise InputError(f"regression: expected one finite number for each example, got {tuple(targets.shape)}")
