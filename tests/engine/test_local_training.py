"""Numbers at the edge are refused in words, and what lies just inside diverges honestly."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.engine import CohortTrainer, Correction, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.errors import InputError


def resident() -> ResidentData:
    split = Split(torch.arange(128, dtype=torch.uint8).view(8, 1, 4, 4), torch.arange(8) % 2)
    clients = list(np.arange(8).reshape(2, 4))
    return ResidentData.build(split, clients, Normalization((0.5,), (0.5,)), torch.device("cpu"))


@pytest.mark.parametrize(
    "wrong", [{"lr": 1e308}, {"lr": 0.0}, {"lr": float("nan")}, {"weight_decay": 1e300}, {"momentum": 1.0}]
)
def test_numbers_that_float32_does_not_hold_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"expected|needs lr > 0"):
        LocalTraining(steps=1, batch_size=1, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize(
    "edge",
    [
        {"lr": 3e38},
        {"lr": 1e-300},
        {"lr": 0.1, "weight_decay": 3e38},
        {"lr": 3e38, "optimizer": "adam"},
        {"lr": 1e-300, "optimizer": "adam"},
    ],
)
def test_numbers_just_inside_end_without_an_exception(engine: Any, edge: dict[str, Any]) -> None:
    data, local = resident(), LocalTraining(steps=3, batch_size=2, **edge)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    trainer = CohortTrainer(module, data, engine=engine)
    plans = [plan_batches(c, local, np.random.default_rng(0)) for c in data.clients]
    correction = Correction(3e38) if "weight_decay" in edge else None
    updates = trainer.train(trainer.start(module), plans, local, correction=correction).updates
    assert updates.shape == (2, trainer.layout.size)
    if edge["lr"] < 1e-3:
        assert updates.abs().max() < 1e-6


@pytest.mark.parametrize("memory_gib", [1e308, float("inf"), float("nan"), 0.0, -1.0])
def test_memory_is_a_number_of_gib(memory_gib: float) -> None:
    with pytest.raises(InputError, match="memory_gib must be positive and at most"):
        CohortTrainer(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), resident(), memory_gib=memory_gib)
