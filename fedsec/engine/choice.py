"""Which engine trains a cohort: decided once, by what a trial told and by trying."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from fedsec.engine.batches import BatchPlan
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Start
from fedsec.engine.stacked import CohortWorker
from fedsec.engine.trial import Trial
from fedsec.errors import InputError

EngineName = Literal["auto", "vectorized", "loop"]
CUDA_STACKED_PARAMETERS = 1_000_000
"""Where `auto` stops stacking models on a GPU that replays no steps: larger ones fill it alone. An estimate."""


def choose(
    asked: EngineName,
    trial: Trial,
    parameters: int,
    room: bool,
    device: torch.device,
    try_stacked: Callable[[], str],
    *,
    replays: bool = False,
) -> tuple[EngineName, str]:
    """The engine, and why it is the loop where that was not asked for.

    Args:
        asked: by whoever configured it.
        trial: of the model.
        parameters: of the model.
        room: whether at least two models fit, whatever their batches.
        device: where they are trained.
        try_stacked: gives the reason why the model cannot be vectorized, empty if it can; called where nothing else
            speaks for the loop.
        replays: whether the loop replays recorded steps, on a GPU.

    Raises:
        InputError: `vectorized` was asked for, and the model cannot be.
    """
    if device.type == "cuda":
        # On an H200 recorded steps, eight clients at a time, were 1.2 (100 clients) to 3 times as fast as stacked ones.
        slow = replays or parameters >= CUDA_STACKED_PARAMETERS
    else:
        # Stacked batch normalization reads its activations twice: on a CPU a loop was 1.3 to 1.8 times as fast.
        slow = bool(trial.statistics.norm_size)
    if asked == "loop" or (asked == "auto" and (slow or not room)):
        return "loop", ""
    problem = trial.why_not_stacked or try_stacked()
    if problem and asked == "vectorized":
        raise InputError(f"engine: the model cannot be vectorized ({problem}); use engine: loop")
    return ("loop", problem) if problem else (asked, "")


def why_not_vectorized(worker: CohortWorker, start: Start) -> str:
    """Empty if `vmap` can train the model, else the reason it cannot."""
    data = worker.data
    plan = BatchPlan(np.repeat(data.clients[0][:1], 2)[None], np.array([2]))
    local = LocalTraining(steps=1, batch_size=1, lr=1.0)
    try:
        with worker.compute.arithmetic(data.device):
            worker.train(start, [plan, plan], local)
    except Exception as error:  # whatever a user's module does under vmap, the loop may still run it
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
