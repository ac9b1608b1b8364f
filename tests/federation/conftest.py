"""A small federation for algorithms that remember their clients, and plain PyTorch to compare it with."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean
from fedsec.engine import CohortTrainer, ResidentData
from fedsec.federation import Federation, UpdateAlgorithm
from fedsec.federation.example_privacy import RunPrivacy
from fedsec.seeds import Streams

SIZES = (8, 4, 6, 10)
"""Examples of each client."""


@pytest.fixture
def build() -> Callable[..., Federation]:
    """Makes a federation of four unequal clients and a linear model."""

    def build(algorithm: UpdateAlgorithm, privacy: RunPrivacy | None = None, **more: Any) -> Federation:
        generator = torch.Generator().manual_seed(0)
        count = sum(SIZES)
        images = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8, generator=generator)
        split = Split(images, torch.randint(0, 3, (count,), generator=generator))
        bounds = np.cumsum([0, *SIZES])
        parts = [np.arange(begin, end) for begin, end in pairwise(bounds)]
        data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        settings: dict[str, Any] = {"aggregator": Mean(), "rounds": 5, "clients_per_round": 2, **more}
        engine = settings.pop("engine", "auto")
        trainer = CohortTrainer(module, data, engine=engine)
        return Federation(
            module, trainer, split, algorithm=algorithm, streams=Streams(3), num_classes=3, privacy=privacy, **settings
        )

    return build


@pytest.fixture
def gradient() -> Callable[[Federation, Tensor, np.ndarray], Tensor]:
    """The gradient of the mean loss of some examples at some parameters, in float64."""

    def gradient(federation: Federation, parameters: Tensor, examples: np.ndarray) -> Tensor:
        images, labels = federation.data.batch(torch.from_numpy(examples))
        leaf = parameters.detach().clone().requires_grad_()
        weight, bias = leaf[:12].view(3, 4), leaf[12:]
        logits = images.flatten(1).double() @ weight.T + bias
        (found,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), leaf)
        return found

    return gradient
