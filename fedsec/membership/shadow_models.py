"""Shadow models: trained by the observer on examples of which it knows whether they were among them, all as one cohort.

A shadow model is to the engine what a client is: a row of one matrix, with examples of its own among those that lie on
the device once for all. So sixteen of them train as a cohort of sixteen clients does, by the same code.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from fedsec.engine.batches import plan_batches
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.seeds import Key, Streams

__all__ = ["balanced_members", "train_shadow_models"]


def balanced_members(models: int, examples: int, rng: np.random.Generator) -> Bool[np.ndarray, "models examples"]:
    """Which examples each model is trained on: a random half of the models for each example, independently.

    Args:
        models: how many; an even number, so that halves are halves.
        examples: how many.
        rng: draws the halves.

    Raises:
        InputError: fewer than two models, or an odd number.
    """
    if models < 2 or models % 2:
        raise InputError(f"shadow_models must be an even number of at least 2, got {models}")
    order = rng.random((models, examples)).argsort(0)
    members: np.ndarray = order < models // 2
    return members


def train_shadow_models(
    trainer: CohortTrainer,
    start: Start,
    candidates: np.ndarray,
    members: Bool[np.ndarray, "models examples"],
    local: LocalTraining,
    *,
    rounds: int = 1,
    known: Sequence[int] | np.ndarray = (),
    streams: Streams,
    name: Sequence[Key] = ("audit", "membership", "shadow"),
) -> Start:
    """Train one model for each row of `members`, all together.

    Args:
        trainer: of the data in which the examples lie; the clients of these data do not matter.
        start: what all models, or each of them, start from.
        candidates: example numbers.
        members: which of the candidates each model is trained on.
        local: the training of a round, with its schedule; private training is done without noise or clipping.
        rounds: how often it is done, each time with a fresh optimizer, as clients do.
        known: example numbers that every model is trained on besides.
        streams: of the experiment.
        name: of the streams that draw batches.

    Returns:
        Parameters and running statistics, a row a model.

    Raises:
        InputError: no round, a model without examples, or what the trainer refuses.
    """
    if rounds < 1:
        raise InputError(f"shadow models: rounds must be at least 1, got {rounds}")
    local = replace(local, private=None, worker_momentum=0.0)
    shares = [np.concatenate([np.asarray(known, np.int64), candidates[row]]) for row in members]
    if min(map(len, shares)) < 1:
        raise InputError("shadow models: one has no examples to train on; expected more candidates")
    size = trainer.data.image_size if trainer.data.images.ndim == 4 else (1, 1)
    models = len(members)
    rows = Start(start.parameters.expand(models, -1).clone(), start.statistics.expand(models, -1).clone())
    for number in range(1, rounds + 1):
        plans = [
            plan_batches(
                share,
                local,
                streams.numpy(*name, model, "round", number),
                size,
                draws=streams.key(*name, model, "round", number, "model"),
            )
            for model, share in enumerate(shares)
        ]
        result = trainer.train(rows, plans, local.in_round(number))
        rows = Start(rows.parameters + result.updates, result.statistics)
    return rows


def finite_models(rows: Start) -> Bool[Tensor, "models"]:
    """Which of some models are finite."""
    finite = rows.parameters.isfinite().all(1)
    return finite & rows.statistics.isfinite().all(1) if rows.statistics.numel() else torch.as_tensor(finite)
