"""Machines of attackers, for checks of attacks that train: a small model, a few random examples, two steps."""

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation.machines import ClientMachine, Machines
from fedsec.seeds import Streams
from fedsec.testing.checks import seeded

__all__ = ["machines"]

_EXAMPLES = 6


def machines(
    count: int, dtype: torch.dtype, device: str, round_number: int = 1
) -> tuple[tuple[ClientMachine, ...], Tensor]:
    """Machines of so many clients, each with examples of its own, and the model's parameters.

    Args:
        count: of clients.
        dtype: of the parameters.
        device: where they train.
        round_number: from 1; the model moves from round to round.
    """
    images = torch.randint(0, 256, (_EXAMPLES * count, 3, 8, 8), dtype=torch.uint8, generator=seeded(5))
    split = Split(images, torch.arange(len(images)) % 10)
    parts = np.split(np.arange(len(images)), count)
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.25,)), torch.device(device))
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05, generator=seeded(round_number))
    trainer = CohortTrainer(model, data)
    start = trainer.start(model)
    parameters = start.parameters.to(dtype)
    local = LocalTraining(steps=2, batch_size=3, lr=0.1)
    equip = Machines(
        trainer, lambda _: local, Streams(0), 10, lambda clients: type(start)(parameters, start.statistics)
    )
    return equip(range(count), round_number), parameters
