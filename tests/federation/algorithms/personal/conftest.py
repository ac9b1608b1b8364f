"""Two clients, a network of two layers, and the gradient of it in plain PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.defenses import Mean
from fedsec.engine import CohortTrainer, ResidentData
from fedsec.engine.parameters import ParameterLayout
from fedsec.federation import Federation, UpdateAlgorithm
from fedsec.seeds import Streams

SIZES = (8, 5)


def network(norm: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(4, 5), *([nn.BatchNorm1d(5)] if norm else []), nn.Tanh(), nn.Linear(5, 3)
        )


@pytest.fixture
def build() -> Callable[..., Federation]:
    """Makes a federation of unequal clients, by default of two."""

    def build(algorithm: UpdateAlgorithm, *, sizes: tuple[int, ...] = SIZES, norm: bool = False, **more: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (sum(sizes), 1, 2, 2), dtype=torch.uint8, generator=generator)
        split = Split(images, torch.randint(0, 3, (sum(sizes),), generator=generator))
        parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
        module = network(norm)
        trainer = CohortTrainer(module, data, engine=more.pop("engine", "auto"))
        settings: dict[str, Any] = {"aggregator": Mean(), "rounds": 4, "num_classes": 3, **more}
        return Federation(module, trainer, split, algorithm=algorithm, streams=Streams(3), **settings)

    return build


@pytest.fixture
def gradient() -> Callable[[Federation, Tensor, np.ndarray], Tensor]:
    """The gradient of the mean loss of some examples at some parameters, in float64."""

    def gradient(federation: Federation, parameters: Tensor, examples: np.ndarray) -> Tensor:
        module = network().double()
        leaf = parameters.detach().double().clone().requires_grad_()
        images, labels = federation.data.batch(torch.from_numpy(examples))
        outputs = functional_call(module, ParameterLayout.of(module).views(leaf), (images.double(),))
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(outputs, labels), leaf)
        return slope

    return gradient
