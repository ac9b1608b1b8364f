"""Small victims of gradient inversion, and rounds as attackers on updates see them."""

from collections.abc import Callable, Collection
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.defenses import Mean
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation import FedAvg, Federation, Threat
from fedsec.federation.threat import AttackRounds
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, LocalSteps, Observation, PixelScale

SHAPE, CLASSES = (1, 10, 10), 5


def sigmoid_network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(800, CLASSES))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.5, 0.5, generator=generator)
    return model


def pictures(size: int, seed: int = 0) -> Tensor:
    """Smooth images of strong contrast, in [0, 1]."""
    coarse = torch.rand(size, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=SHAPE[1:], mode="bilinear", align_corners=True)


def client(
    images: Tensor,
    labels: Tensor,
    *,
    local: LocalSteps | None = None,
    scale: PixelScale | None = None,
    granted: bool = False,
    model: nn.Module | None = None,
) -> Observation:
    """What the server sees of a client with these images, which it visits in order."""
    scale = scale or PixelScale()
    model = model if model is not None else sigmoid_network()
    worker, inputs = deepcopy(model), scale.apply(images)
    if local is None:
        rows = torch.autograd.grad(F.cross_entropy(worker(inputs), labels), list(worker.parameters()))
    else:
        for _, places in local.slots(len(images)):
            steps = torch.autograd.grad(F.cross_entropy(worker(inputs[places]), labels[places]), [*worker.parameters()])
            for parameter, step in zip(worker.parameters(), steps, strict=True):
                parameter.data -= local.lr * step
        rows = tuple((new - old).detach() for new, old in zip(worker.parameters(), model.parameters(), strict=True))
    update = dict(zip((name for name, _ in model.named_parameters()), rows, strict=True))
    told = labels[torch.arange(len(labels)).roll(1)] if granted else None
    return Observation(model, update, SHAPE, CLASSES, len(images), scale, local, told)


def decibels(found: Tensor | None, images: Tensor) -> float:
    """Mean PSNR of the nearest reconstruction of each original, above that of a gray image."""
    assert found is not None
    errors = (found[:, None] - images).square().flatten(2).mean(2).amin(0)
    gray = (images - 0.5).square().flatten(1).mean(1)
    return 10 * float((gray / errors).log10().mean())


@pytest.fixture(name="client")
def _client() -> Callable[..., Observation]:
    return client


@pytest.fixture(name="pictures")
def _pictures() -> Callable[..., Tensor]:
    return pictures


@pytest.fixture(name="decibels")
def _decibels() -> Callable[..., float]:
    return decibels


def random_rows(count: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows about a mean that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(columns, generator=generator, dtype=torch.float64)
    return (center + torch.randn(count, columns, generator=generator, dtype=torch.float64)).to(dtype)


def attacker_view(
    honest: Tensor | list[list[float]], own: Tensor | list[list[float]] | int = 2, **more: Any
) -> AttackerView:
    """A round: honest rows, and the attackers' own ones or how many rows of ones."""
    rows = torch.as_tensor(honest)
    mine = torch.ones(own, rows.shape[1]).to(rows) if isinstance(own, int) else torch.as_tensor(own).to(rows)
    settings: dict[str, Any] = {
        "parameters": torch.zeros(rows.shape[1]).to(rows),
        "num_clients": len(mine) + len(rows),
        "round": 1,
        "generator": torch.Generator().manual_seed(7),
    }
    return AttackerView(own=mine, honest=rows, num_byzantine=len(mine), **(settings | more))


@pytest.fixture(name="attacker_view", scope="session")
def _attacker_view() -> Callable[..., AttackerView]:
    return attacker_view


@pytest.fixture(name="random_rows", scope="session")
def _random_rows() -> Callable[..., Tensor]:
    return random_rows


def examples(number: int, seed: int) -> Split:
    """Images of three classes, told by where they are bright; the corners are dark."""
    labels = torch.arange(number) % 3
    images = torch.randint(0, 60, (number, 1, 4, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    images[torch.arange(number), 0, 1, 3 * labels] += 120
    images[..., 0, :] = images[..., 3, :] = 0
    return Split(images, labels)


def backdoored(attack: Any, byzantine: Collection[int] = (), **more: Any) -> Federation:
    """Six clients that learn them, some of them attackers; evaluated in the end."""
    data = ResidentData.build(
        examples(180, 0), np.array_split(np.arange(180), 6), Normalization((0.0,), (0.25,)), torch.device("cpu")
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 3))
    schedule = more.pop("schedule", AttackRounds())
    more = {"rounds": 8, "aggregator": Mean(), "evaluate_every": 8, **more}
    return Federation(
        model,
        CohortTrainer(model, data),
        examples(60, 1),
        algorithm=FedAvg(local=LocalTraining(epochs=3, batch_size=10, lr=0.2)),
        streams=Streams(0),
        threat=Threat(frozenset(byzantine), attack, schedule),
        num_classes=3,
        **more,
    )


@pytest.fixture(name="backdoored")
def _backdoored() -> Callable[..., Federation]:
    return backdoored
