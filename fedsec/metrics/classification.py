"""How well a model classifies a test set."""

from dataclasses import dataclass

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


@torch.no_grad()
def evaluate(
    module: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    labels: Tensor,
    normalization: Normalization,
    num_classes: int,
) -> Classification:
    """Classify a resident test set in evaluation mode; one synchronization at the end.

    Args:
        module: the model, on the images' device.
        images: uint8 in 0..255.
        labels: [n], int64.
        normalization: the constants the model was trained with.
        num_classes: length of `per_class_accuracy`.
    """
    was_training = module.training
    module.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    predicted = torch.empty_like(labels)
    for begin in range(0, len(labels), EVALUATION_BATCH):
        part = slice(begin, begin + EVALUATION_BATCH)
        logits = module(normalize(images[part], normalization))
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
