"""LARS and LAMB against their algorithms written out layer by layer in NumPy, in both engines."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.engine.messages import Start

SIZES = (7, 4)
Layer = NDArray[np.float64]


class Lars:
    """Algorithm 1 of You et al. 2017, with the authors' rule for layers without a length."""

    def __init__(self, local: LocalTraining) -> None:
        self.local, self.v = local, 0.0

    def step(self, w: Layer, g: Layer) -> Layer:
        decay, length, slope = self.local.weight_decay, np.linalg.norm(w), np.linalg.norm(g)
        rate = 0.001 * (length / (slope + decay * length) if length and slope else 1.0)
        self.v = self.local.momentum * self.v + self.local.lr * rate * (g + decay * w)
        return w - self.v


class Lamb:
    """Algorithm 2 of You et al. 2020."""

    def __init__(self, local: LocalTraining) -> None:
        self.local, self.m, self.v, self.t = local, 0.0, 0.0, 0

    def step(self, w: Layer, g: Layer) -> Layer:
        self.t += 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2
        mean, scale = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        u = mean / (np.sqrt(scale) + 1e-6) + self.local.weight_decay * w
        length, moved = np.linalg.norm(w), np.linalg.norm(u)
        return w - self.local.lr * (length / moved if length and moved else 1.0) * u


def network() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.ReLU(), nn.Linear(12, 3))
    nn.init.zeros_(module[0].bias)
    nn.init.zeros_(module[3].bias)
    return module


def cohort(engine: Any, **more: Any) -> CohortTrainer:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (sum(SIZES), 2, 3, 3), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (sum(SIZES),), generator=generator))
    parts = [np.arange(SIZES[0]), np.arange(SIZES[0], sum(SIZES))]
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    return CohortTrainer(network(), data, engine=engine, **more)


def plans(trainer: CohortTrainer, local: LocalTraining) -> list[Any]:
    return [plan_batches(own, local, np.random.default_rng(0)) for own in trainer.data.clients]


def by_hand(trainer: CohortTrainer, local: LocalTraining, client: int) -> Tensor:
    """One client's update, with PyTorch's gradients in float64."""
    module = network().double()
    layers = [Lars(local) if local.optimizer == "lars" else Lamb(local) for _ in module.parameters()]
    before = torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()
    plan = plans(trainer, local)[client]
    for examples, size in zip(plan.examples, plan.sizes, strict=True):
        images, labels = trainer.data.batch(torch.from_numpy(examples[:size]))
        module.zero_grad()
        nn.functional.cross_entropy(module(images.double()), labels).backward()
        with torch.no_grad():
            for layer, parameter in zip(layers, module.parameters(), strict=True):
                assert parameter.grad is not None
                parameter.copy_(torch.from_numpy(layer.step(parameter.numpy(), parameter.grad.numpy())))
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]) - before


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lars", "lr": 20.0},
        {"optimizer": "lars", "lr": 20.0, "momentum": 0.9, "weight_decay": 0.1},
        {"optimizer": "lamb", "lr": 0.05},
        {"optimizer": "lamb", "lr": 0.05, "weight_decay": 0.1},
    ],
)
def test_engines_take_the_papers_steps_layer_by_layer(engine: str, settings: Any) -> None:
    """Ragged clients, several epochs, and biases that begin without a length."""
    local = LocalTraining(epochs=2, batch_size=3, **settings)
    trainer = cohort(engine)
    start = trainer.start(network())
    result = trainer.train(start, plans(trainer, local), local)
    assert trainer.used.startswith(engine)
    for client in range(2):
        expected = by_hand(trainer, local, client)
        assert expected.norm() > 0.01
        torch.testing.assert_close(result.updates[client].double(), expected, rtol=2e-4, atol=1e-6)


def test_layers_follow_memory_formats() -> None:
    """With channels last a convolution's numbers lie in another order; its length is the same."""
    from fedsec.engine.precision import Compute

    local = LocalTraining(steps=3, batch_size=4, optimizer="lamb", lr=0.05)
    updates = []
    for memory_format in ("contiguous", "channels_last"):
        trainer = cohort("loop", compute=Compute(memory_format=memory_format))
        updates.append(trainer.train(trainer.start(network()), plans(trainer, local), local).updates)
    torch.testing.assert_close(updates[0], updates[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_lars_moves_a_layer_by_a_share_of_its_length_however_long_its_gradient(engine: str, scale: float) -> None:
    local = LocalTraining(steps=1, batch_size=4, optimizer="lars", lr=20.0)
    trainer = cohort(engine)
    start = trainer.start(network())
    moved = trainer.train(Start(start.parameters * scale, start.statistics), plans(trainer, local), local).updates
    views, lengths = trainer.layout.views(moved), trainer.layout.views(start.parameters * scale)
    for name in ("0.weight", "3.weight"):
        torch.testing.assert_close(
            views[name].flatten(1).norm(dim=1), torch.full((2,), 0.02) * lengths[name].norm(), rtol=1e-4, atol=0
        )
