"""Engines take the loss from the task: another one's, in both of them and privately, against a plain loop."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import Noise, plan_batches
from fedsec.privacy import PrivateTraining
from fedsec.tasks import Classification

SIZES, SHAPE, CLASSES = (9, 5), (1, 4, 4), 3
LOCAL = LocalTraining(epochs=2, batch_size=4, lr=0.1)


@dataclass(frozen=True)
class Brier(Classification):
    """Classes with the squared error of probabilities."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = torch.nn.functional.one_hot(targets, outputs.shape[1])
        return (outputs.softmax(-1) - wanted).square().sum(-1)


def world() -> tuple[nn.Module, ResidentData]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sum(SIZES), *SHAPE), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, CLASSES, (sum(SIZES),), generator=generator))
    clients = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    return module, ResidentData.build(split, clients, Normalization((0.5,), (0.5,)), torch.device("cpu"))


def plain(module: nn.Module, batches: list[tuple[Tensor, Tensor]], lr: float) -> Tensor:
    module = copy.deepcopy(module)
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    optimizer = torch.optim.SGD(module.parameters(), lr)
    for images, labels in batches:
        optimizer.zero_grad()
        chances = module(images).softmax(1)
        wanted = torch.eye(CLASSES)[labels]
        torch.stack([((c - w) ** 2).sum() for c, w in zip(chances, wanted, strict=True)]).mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()]) - before


@pytest.mark.parametrize("engine", ["loop", "vectorized", "private"])
def test_the_loss_is_the_task_s(engine: Any) -> None:
    module, data = world()
    local, noise = LOCAL, None
    if engine == "private":
        # Every example in the one batch, nothing clipped, no noise.
        local, noise = LocalTraining(steps=2, batch_fraction=1.0, lr=0.1, private=PrivateTraining(0.0, 1e6)), True
    trainer = CohortTrainer(module, data, engine="auto" if noise else engine, task=Brier(CLASSES))
    plans = [
        plan_batches(part, local, np.random.default_rng(i), noise=Noise(0.0, i) if noise else None)
        for i, part in enumerate(data.clients)
    ]
    trained = trainer.train(trainer.start(module), plans, local).updates
    for plan, row in zip(plans, trained, strict=True):
        numbers = [torch.from_numpy(plan.examples[step, :size]) for step, size in enumerate(plan.sizes)]
        expected = plain(module, [data.batch(some) for some in numbers], 0.1)
        torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-6)


def test_a_full_gradient_is_of_the_task_s_loss() -> None:
    module, data = world()
    trainer = CohortTrainer(module, data, task=Brier(CLASSES))
    gradient = trainer.gradients(trainer.start(module), [1]).updates[0]
    everything = data.batch(torch.from_numpy(data.clients[1]))
    torch.testing.assert_close(gradient, -plain(module, [everything], 1.0), rtol=1e-3, atol=1e-6)
