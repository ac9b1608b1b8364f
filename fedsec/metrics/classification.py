"""How well a model classifies a test set."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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
class Classification:
    """Test-set figures, all fractions.

    Args:
        accuracy: share of examples classified correctly.
        loss: mean cross entropy.
        per_class_accuracy: recall of each class (NaN for a class without test examples).
    """

    accuracy: float
    loss: float
    per_class_accuracy: tuple[float, ...]


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
) -> Classification:
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
    return Classification(
        accuracy=hits.double().mean().item(),
        loss=(loss / len(labels)).item(),
        per_class_accuracy=tuple((right / total).tolist()),
    )


def _logits(module: nn.Module, inputs: Tensor, compute: Arithmetic | None) -> Tensor:
    if compute is None:
        found: Tensor = module(inputs)
        return found
    with compute.autocast(inputs.device):
        found = module(compute.inputs(inputs))
    return found.to(inputs.dtype)


def average(figures: Sequence[Classification]) -> Classification:
    """The mean of several models' figures on one test set."""
    rows = zip(*(each.per_class_accuracy for each in figures), strict=True)
    return Classification(
        accuracy=fmean(each.accuracy for each in figures),
        loss=fmean(each.loss for each in figures),
        per_class_accuracy=tuple(fmean(row) for row in rows),
    )
