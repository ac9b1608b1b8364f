"""Whether an update is what it is said to be: the gradient of a mean cross-entropy contradicts itself otherwise.

At the head's bias that gradient is mean_i p_ic - n_c / B: it sums to zero over the classes, its negative part sums to
at least -1, and no more classes than there are images are negative. What breaks the second was multiplied by a number
(a sum over the batch, a loss scale of mixed precision); what breaks the third has the other sign (before - after).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.matching.head import find_head
from fedsec.matching.labels import recover_labels
from fedsec.matching.limits import Deadline
from fedsec.threat import Observation, Reconstruction

__all__ = ["consistent", "with_notes"]

_SLACK = 1e-2
"""Relative error of sums over the head's bias, for updates of low precision."""

_OCTAVES = 8
"""Powers of two that are tried for a scale, from the smallest that the update allows: labels' share of 1 / 2^8."""


def consistent(
    observations: Sequence[Observation], deadline: Deadline | None = None
) -> tuple[list[Observation], list[tuple[str, ...]]]:
    """Observations as gradients of a mean loss where they can be read so, and what a reader must be told of each.

    Args:
        observations: alike in kind. A known defense explains any contradiction; those are left as they are.
        deadline: when it passes, no more numbers are tried by which a gradient may have been multiplied.
    """
    pairs = [_consistent(observation, deadline or Deadline()) for observation in observations]
    return [observation for observation, _ in pairs], [notes for _, notes in pairs]


def with_notes(results: Sequence[Reconstruction], notes: Sequence[Sequence[str]]) -> list[Reconstruction]:
    """Reconstructions with more notes, after their own."""
    return [replace(result, notes=(*result.notes, *more)) for result, more in zip(results, notes, strict=True)]


def _consistent(observation: Observation, deadline: Deadline) -> tuple[Observation, tuple[str, ...]]:
    observation = observation.as_gradient()
    if observation.loss.name not in ("cross_entropy", "nll") or observation.distortion is not None:
        return observation, ()
    head = find_head(observation)
    row = None if head is None else head.bias_gradient(observation.gradient)
    if row is None or not bool(row.any()):
        return observation, ()
    row = row.double()
    if abs(float(row.sum())) > _SLACK * float(row.abs().sum()):
        doubt = (
            f"the gradient at the last layer's bias sums to {float(row.sum()):.3g} over the classes, that of a "
            "cross-entropy to 0: the loss is another one, or something was done to the update; what is read from the "
            "last layer may be wrong"
        )
        return observation, (doubt,)
    if _reversed(row, observation.batch_size):
        doubt = (
            "more classes are negative at the last layer's bias than there are images: read with the opposite sign, "
            "as before - after"
        )
        observation, rest = _scaled(observation.times(-1), -row, deadline)
        return observation, (doubt, *rest)
    return _scaled(observation, row, deadline)


def _reversed(row: Float[Tensor, "classes"], size: int) -> bool:
    """Whether only the opposite sign leaves each negative class an image."""
    least = 1e-5 * float(row.abs().max())
    return int((row < -least).sum()) > size >= int((row > least).sum())


def _scaled(
    observation: Observation, row: Float[Tensor, "classes"], deadline: Deadline
) -> tuple[Observation, tuple[str, ...]]:
    """Divided by what it was multiplied by, if it cannot be the gradient of a mean."""
    largest = -float(row.clamp_max(0).sum())
    if largest <= 1 + _SLACK or observation.local is not None:
        return observation, ()
    factor = _likeliest_factor(observation, largest, deadline)
    doubt = (
        f"the gradient at the last layer's bias is larger than a mean cross-entropy's can be: read as one multiplied "
        f"by {factor:g}, a sum over the batch or a loss scale"
    )
    return observation.times(1 / factor), (doubt,)


def _likeliest_factor(observation: Observation, largest: float, deadline: Deadline) -> float:
    """The power of two, or one times the batch size, for which the classes' counts come out nearest to whole."""
    lowest = torch.tensor(largest / (1 + _SLACK)).log2().ceil()
    powers = [2.0 ** (int(lowest) + octave) for octave in range(-_OCTAVES, _OCTAVES)]
    factors = {power * size for power in powers for size in (1, observation.batch_size)}
    possible = sorted(factor for factor in factors if largest / (1 + _SLACK) <= factor <= 2**_OCTAVES * largest)

    errors: dict[float, float] = {}
    for factor in possible:
        estimate = recover_labels(observation.times(1 / factor), deadline=deadline)
        errors[factor] = float((estimate.scores - estimate.counts).square().sum())
        if deadline.passed:
            break
    return min(errors, key=errors.__getitem__)
