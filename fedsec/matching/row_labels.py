"""Labels of recovered images, and which of them are images and no mixtures: what each would have left in the gradient.

An image x with label y adds s(x, y) / B to the bias gradient of its row, which the attacker can compute for every
class, having the image and the model. One of the classes must give what is there; where none does, the row held several
images.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from fedsec.errors import InputError
from fedsec.matching.labels import labels_of
from fedsec.threat import Observation

__all__ = ["Identified", "Marks", "completed", "identified"]

_EXACT = 2e-3
"""Relative difference between what an image would leave and what is there, which rounding may make."""
_MOST_CLASSES = 1000
_LOUDEST = 4
"""Images that a hidden factor is looked for by."""

Marks = Callable[[Tensor, Tensor], Tensor]
"""(inputs [images, channels, height, width], zeros [images] to be added to what the images' rows put out) -> logits."""


@dataclass(frozen=True, eq=False)
class Identified:
    """What is known of recovered images.

    Attributes:
        labels: one each; None where nothing ties labels to images.
        confirmed: which of them left exactly what is in the gradient; None where that cannot be told.
    """

    labels: Int64[Tensor, "images"] | None
    confirmed: Bool[Tensor, "images"] | None


def identified(
    observation: Observation,
    inputs: Float[Tensor, "images channels height width"],
    strengths: Float[Tensor, "images"],
    logits_of: Marks,
) -> Identified:
    """Find the label of each image, and whether it is one.

    Args:
        observation: where the images come from.
        inputs: recovered images as the model's input, at most as many as the batch has.
        strengths: of their rows, in the gradient of the mean loss.
        logits_of: see `Marks`.
    """
    from scipy.optimize import linear_sum_assignment

    marks = _marks_by_class(observation, inputs, logits_of)
    if marks is None:
        return Identified(None, None)
    seen = (strengths * observation.batch_size).to(marks)
    distortion = observation.distortion
    if distortion is not None and distortion.rescaled:
        seen = seen * _hidden_factor(seen, marks)
    errors = (seen[:, None] - marks).abs() / marks.abs().clamp_min(1e-12)
    exact = observation.local is None and (distortion is None or not any(distortion.noise.values()))
    confirmed = errors.amin(1) < _EXACT if exact else None
    if observation.labels is None:
        return Identified(errors.argmin(1), confirmed)
    costs = errors[:, observation.labels].log1p().clamp_max(1e6).nan_to_num(1e6)
    places = linear_sum_assignment(costs.cpu().numpy())[1]
    return Identified(observation.labels[torch.as_tensor(places, device=errors.device)], confirmed)


def completed(
    observation: Observation, labels: Int64[Tensor, "some"] | None, generator: torch.Generator
) -> Int64[Tensor, "batch"] | None:
    """Labels of the whole batch: those that are known, then what the last layer says of the others; None without one.

    Args:
        observation: of the batch.
        labels: of its first images; None for nobody's.
        generator: of random images that labels are counted by.
    """
    try:
        batch = labels_of(observation, generator).tolist()
    except InputError:
        return None
    known = [] if labels is None else labels[: len(batch)].tolist()
    others = list((Counter(batch) - Counter(known)).elements())
    others += [known[-1]] * (len(batch) - len(known) - len(others)) if known else []
    completed = [*known, *others][: len(batch)]
    return torch.tensor(completed, device=observation.device)


def _marks_by_class(
    observation: Observation, inputs: Float[Tensor, "images channels height width"], logits_of: Marks
) -> Float[Tensor, "images classes"] | None:
    """What each image would leave in its row's bias, for every class that it may have; None where it cannot be told."""
    batched = any(isinstance(module, _BatchNorm) and module.training for module in observation.model.modules())
    if batched or observation.num_classes > _MOST_CLASSES or not len(inputs):
        return None
    zeros = torch.zeros(len(inputs), dtype=inputs.dtype, device=inputs.device, requires_grad=True)
    with torch.enable_grad():
        logits = logits_of(inputs, zeros)
        columns = []
        for label in range(observation.num_classes):
            loss = observation.loss.sum(logits, torch.full((len(inputs),), label, device=inputs.device))
            columns.append(torch.autograd.grad(loss, zeros, retain_graph=True)[0].double())
    return torch.stack(columns, 1)


def _hidden_factor(seen: Float[Tensor, "images"], marks: Float[Tensor, "images classes"]) -> float:
    """What clipping divided by: the factor with which most images are confirmed, of those that some image allows."""
    candidates = (marks[:_LOUDEST] / seen[:_LOUDEST, None]).flatten()
    candidates = candidates[candidates.isfinite() & (candidates > 0)]
    agreeing = [
        int((((factor * seen[:, None] - marks).abs() / marks.abs().clamp_min(1e-12)).amin(1) < _EXACT).sum())
        for factor in candidates
    ]
    return float(candidates[agreeing.index(max(agreeing))]) if agreeing else 1.0
