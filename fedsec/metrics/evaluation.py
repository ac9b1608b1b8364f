"""A model on a test set: its outputs, and what a task and further measures make of them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.metrics.measure import Measure

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model.

    Args:
        metrics: name -> value, see `fedsec.metrics.metric.METRICS`.
        per_class: name -> a value for each class (NaN for a class without test examples).
    """

    metrics: Mapping[str, float]
    per_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class Arithmetic(Protocol):
    """How forward passes are computed; `fedsec.engine.precision.Compute` is one."""

    def arithmetic(self, device: torch.device) -> AbstractContextManager[Any]:
        """Lasts while the process's switches are set."""

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Lasts during a forward pass."""

    def inputs(self, images: Tensor) -> Tensor:
        """Images as the model takes them."""


class Measured(Protocol):
    """What is made of a test set's outputs; `fedsec.tasks.Task` is one."""

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics by name."""

    def measure_strata(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[float, ...]]:
        """Metrics of each group of examples, by name."""


@torch.no_grad()
def outputs_of(
    module: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    normalization: Normalization,
    *,
    compute: Arithmetic | None = None,
) -> Float[Tensor, "n outputs"]:
    """What a model puts out in evaluation mode; its mode is restored.

    Args:
        module: the model, on the images' device.
        images: uint8 in 0..255.
        normalization: the constants the model was trained with.
        compute: precision and memory format of the forward passes; None leaves the process as it is.

    Returns:
        On the images' device, in the dtype of normalized images.
    """
    was_training = module.training
    module.eval()
    outputs = []
    with nullcontext() if compute is None else compute.arithmetic(images.device):
        for begin in range(0, len(images), EVALUATION_BATCH):
            outputs.append(
                _forward(module, normalize(images[begin : begin + EVALUATION_BATCH], normalization), compute)
            )
    module.train(was_training)
    return torch.cat(outputs)


def _forward(module: nn.Module, inputs: Tensor, compute: Arithmetic | None) -> Tensor:
    if compute is None:
        outputs: Tensor = module(inputs)
        return outputs
    with compute.autocast(inputs.device):
        outputs = module(compute.inputs(inputs))
    return outputs.to(inputs.dtype)


@torch.no_grad()
def evaluate(
    module: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    targets: Tensor,
    normalization: Normalization,
    task: Measured,
    *,
    measures: Mapping[str, Measure] | None = None,
    compute: Arithmetic | None = None,
) -> Evaluation:
    """Measure a model on a resident test set.

    Args:
        module: the model, on the images' device.
        images: uint8 in 0..255.
        targets: [n], what the outputs should be.
        normalization: the constants the model was trained with.
        task: whose metrics come first.
        measures: further metrics, by name.
        compute: precision and memory format of the forward passes; None leaves the process as it is.
    """
    outputs = outputs_of(module, images, normalization, compute=compute)
    further = {name: measure.value(name, outputs, targets) for name, measure in (measures or {}).items()}
    return Evaluation({**task.measure(outputs, targets), **further}, task.measure_strata(outputs, targets))


def average(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The mean of several models' evaluations on one test set."""
    first = evaluations[0]
    rows = {name: zip(*(one.per_class[name] for one in evaluations), strict=True) for name in first.per_class}
    return Evaluation(
        {name: fmean(one.metrics[name] for one in evaluations) for name in first.metrics},
        {name: tuple(fmean(values) for values in row) for name, row in rows.items()},
    )
