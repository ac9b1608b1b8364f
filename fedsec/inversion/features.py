"""How much of the features, which enter the last linear layer, an attack recovered: a leak of its own."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from statistics import fmean

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from fedsec.matching.head import find_head
from fedsec.threat import Observation

__all__ = ["Likeness", "compare", "mean_likeness", "true_features"]


@torch.no_grad()
def true_features(
    observation: Observation, images: Float[Tensor, "batch channels height width"], *, train: bool
) -> Float[Tensor, "batch features"] | None:
    """What the client's images are when they enter the last linear layer; None if the model has no such layer.

    Args:
        observation: of the client's update; left unchanged.
        images: of the client, in [0, 1].
        train: whether its batch normalization was in train mode.
    """
    head = find_head(observation)
    if head is None:
        return None
    model = deepcopy(observation.model)
    for layer in model.modules():
        if isinstance(layer, _NormBase):
            layer.train(train)
    inputs = observation.scale.apply(images.to(observation.device))
    return replace(head, module=model).features(inputs)[0]


@dataclass(frozen=True)
class Likeness:
    """How close recovered features are to the true ones; means over a batch.

    Attributes:
        cosine: at most 1. Features behind a sigmoid are all positive, so that any two have a cosine near 1.
        error: length of the difference, as a share of the true features' length.
    """

    cosine: float
    error: float


def compare(recovered: Float[Tensor, "batch features"], truth: Float[Tensor, "batch features"]) -> Likeness:
    """Recovered features beside the true ones, each assigned to another so that the summed cosine is the largest."""
    from scipy.optimize import linear_sum_assignment

    truth = truth.double()
    recovered = recovered.to(truth)
    cosines = F.cosine_similarity(truth[:, None], recovered[None], dim=2).cpu()
    rows, columns = linear_sum_assignment(-cosines.numpy())
    errors = (recovered[columns] - truth[rows]).norm(dim=1) / truth[rows].norm(dim=1).clamp_min(1e-12)
    return Likeness(float(cosines[rows, columns].mean()), float(errors.mean()))


def mean_likeness(likenesses: Sequence[Likeness]) -> Likeness:
    """The mean over batches."""
    return Likeness(fmean(likeness.cosine for likeness in likenesses), fmean(likeness.error for likeness in likenesses))
