"""How well a model classifies a test set."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """A model on a test set.

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


@torch.no_grad()
def evaluate(
    module: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    labels: Tensor,
    normalization: Normalization,
    num_classes: int,
    *,
    compute: Arithmetic | None = None,
) -> Evaluation:
    """Classify a resident test set in evaluation mode; results wait on the device until the end.

    Args:
        module: the model, on the images' device.
        images: uint8 in 0..255.
        labels: [n], int64.
        normalization: the constants the model was trained with.
        num_classes: length of `per_class_accuracy`.
        compute: precision and memory format of the forward passes; None leaves the process as it is.
    """
    was_training = module.training
    module.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    predicted = torch.empty_like(labels)
    with nullcontext() if compute is None else compute.arithmetic(images.device):
        for begin in range(0, len(labels), EVALUATION_BATCH):
            part = slice(begin, begin + EVALUATION_BATCH)
            logits = _logits(module, normalize(images[part], normalization), compute)
            loss += F.cross_entropy(logits, labels[part], reduction="sum")
            predicted[part] = logits.argmax(1)
    module.train(was_training)
    hits = predicted == labels
    right = torch.bincount(labels[hits], minlength=num_classes).double()
    total = torch.bincount(labels, minlength=num_classes).double()
    return Evaluation(
        {"accuracy": hits.double().mean().item(), "loss": (loss / len(labels)).item()},
        {"per_class_accuracy": tuple((right / total).tolist())},
    )


def _logits(module: nn.Module, inputs: Tensor, compute: Arithmetic | None) -> Tensor:
    if compute is None:
        logits: Tensor = module(inputs)
        return logits
    with compute.autocast(inputs.device):
        logits = module(compute.inputs(inputs))
    return logits.to(inputs.dtype)


def average(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The mean of several models' evaluations on one test set."""
    first = evaluations[0]
    rows = {name: zip(*(one.per_class[name] for one in evaluations), strict=True) for name in first.per_class}
    return Evaluation(
        {name: fmean(one.metrics[name] for one in evaluations) for name in first.metrics},
        {name: tuple(fmean(values) for values in row) for name, row in rows.items()},
    )
