"""How a client trained, searched by what an inversion makes of its update.

Matching by cosine, as most inversions do, sees the direction of an update alone: learning rates that differ by a
factor explain it alike. The length tells them apart once there are images. Each candidate training is assumed, the
update is inverted, the candidate training is done on the images that come out, and the candidate whose update comes
nearest to the observed one, length included, is the likeliest:

    mismatch = ||trained on the images - observed||^2 / ||observed||^2

Without candidates the update is read as one plain step of unknown length. With the gradient g of the images, the rate
is then the least-squares solution lr = <-update, g> / ||g||^2.

What cannot be told: trainings that differ less in their updates than the images are wrong, such as twice the steps at
half the rate where the rate is small. Those are named beside the best.

Reference: this project.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from fedsec.errors import InputError
from fedsec.matching.candidates import Candidates
from fedsec.matching.distances import squared_distance, squared_norm
from fedsec.threat import Inversion, LocalSteps, Observation, Reconstruction

__all__ = ["LocalSearch", "search_local"]

_ALIKE = 2.0
"""Mismatches within this factor of the best are no evidence: what remains is the error of the images."""
_NOTHING = 0.5
"""The best mismatch above this explains less than half of the update."""


@dataclass(frozen=True, eq=False)
class LocalSearch:
    """What was found out about a client's training.

    Attributes:
        local: the likeliest.
        observation: with it as the client's training.
        reconstruction: of that observation; of the unknown one where there were no candidates.
        mismatches: of each candidate, by the candidate; the likeliest has the smallest.
        remarks: what a reader should know, one line each.
    """

    local: LocalSteps
    observation: Observation
    reconstruction: Reconstruction
    mismatches: Mapping[LocalSteps, float]
    remarks: tuple[str, ...]


def search_local(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    attack: Inversion,
    candidates: Sequence[LocalSteps] = (),
    *,
    model: nn.Module,
    generator: torch.Generator | None = None,
    **known: Any,
) -> LocalSearch:
    """The likeliest of some local trainings, and what the attack recovers with it.

    Args:
        before: the state dict that was sent.
        after: the client's, after training.
        attack: recovers images; run once for each candidate.
        candidates: trainings that are likely. None: one plain step, of which the rate is computed.
        model: their architecture; left as it is.
        generator: of the attack, on the CPU; each candidate gets the same numbers.
        known: all else that `Observation.of_state_dicts` takes: `input_shape`, `num_classes`, `batch_size`, ...

    Raises:
        InputError: the parts do not go together, or an attack that recovers no images.
    """
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
    trials = list[tuple[float, LocalSteps, Observation, Reconstruction]]()
    for local in candidates or (None,):
        seen = Observation.of_state_dicts(before, after, model=model, local=local, **known)
        result = attack.reconstruct(seen, generator=torch.Generator().manual_seed(seed))
        if result.images is None or result.labels is None:
            raise InputError(f"search_local: {type(attack).__name__} recovers no images and labels to train on")
        if local is None:
            local = _plain_step(Observation.of_state_dicts(before, after, model=model, local=_UNIT, **known), result)
        seen = Observation.of_state_dicts(before, after, model=model, local=local, **known)
        trials.append((_mismatch(seen, result), local, seen, result))
    trials.sort(key=lambda trial: trial[0])
    mismatches = {local: mismatch for mismatch, local, _, _ in trials}
    _, local, seen, result = trials[0]
    return LocalSearch(local, seen, result, mismatches, tuple(_doubts(mismatches, bool(candidates))))


_UNIT = LocalSteps(lr=1.0, steps=1)


def _plain_step(seen: Observation, result: Reconstruction) -> LocalSteps:
    """One step of the rate at which the images' gradient comes nearest to the update."""
    predicted, observed = _updates(seen, result)
    squares = float(squared_norm(predicted))
    inner = sum(float((a.double() * b.double()).sum()) for a, b in zip(predicted, observed, strict=True))
    if not (squares > 0 and inner > 0):
        raise InputError(
            "search_local: the update does not point along the gradient of any images that were recovered; expected "
            "candidates, or an attack that runs longer"
        )
    return LocalSteps(lr=inner / squares, steps=1)


def _mismatch(seen: Observation, result: Reconstruction) -> float:
    predicted, observed = _updates(seen, result)
    return float(squared_distance(predicted, observed, squared_norm(observed)))


def _updates(seen: Observation, result: Reconstruction) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What the client would have sent with the recovered images, and what it sent; [1, ...] for each parameter."""
    client = Candidates([seen])
    assert result.images is not None
    assert result.labels is not None
    inputs = seen.scale.apply(result.images.to(client.targets[0]))[None]
    updates = client.updates(inputs, result.labels.to(inputs.device)[None], torch.arange(1))
    return [row.detach() for row in updates], client.targets


def _doubts(mismatches: Mapping[LocalSteps, float], searched: bool) -> list[str]:
    (best, smallest), *others = mismatches.items()
    doubts = []
    if smallest > _NOTHING:
        doubts.append(f"no training explains the update: the best leaves {smallest:.0%} of it")
    alike = [local for local, mismatch in others if mismatch <= _ALIKE * smallest]
    if alike:
        others_named = ", ".join(map(_named, alike))
        doubts.append(f"{_named(best)} cannot be told from {others_named}: what remains is the error of the images")
    if not searched:
        doubts.append(
            f"read as one plain step, of learning rate {best.lr:.3g}; more steps of a smaller rate look alike"
        )
    return doubts


def _named(local: LocalSteps) -> str:
    """What a training says of itself beside the defaults."""
    values = [(field.name, getattr(local, field.name), field.default) for field in fields(local)]
    return f"({', '.join(f'{name}={value}' for name, value, default in values if value != default)})"
