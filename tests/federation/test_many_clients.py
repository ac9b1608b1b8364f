"""What a round does grows with its clients, not with their square."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import FedAvg, Federation
from fedsec.seeds import Streams

PASSES = {"count": 0}
"""How often somebody went over the clients that were heard."""


class Counted(list[int]):
    """A list that counts how often somebody goes over it."""

    def __iter__(self) -> Iterator[int]:
        PASSES["count"] += 1
        return super().__iter__()


@dataclass(frozen=True)
class CountingFedAvg(FedAvg):
    """Federated averaging whose clients are counted by all who look at them."""

    def heard(self, clients: Sequence[int], round_number: int, streams: Streams) -> list[int]:
        return Counted(clients)


def passes(num_clients: int) -> int:
    images = torch.zeros(num_clients, 1, 1, 1, dtype=torch.uint8)
    split = Split(images, torch.arange(num_clients) % 2)
    parts = [np.array([client]) for client in range(num_clients)]
    data = ResidentData.build(split, parts, Normalization((0.0,), (1.0,)), torch.device("cpu"))
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    federation = Federation(
        module,
        CohortTrainer(module, data),
        split,
        algorithm=CountingFedAvg(local=LocalTraining(steps=1, batch_size=1)),
        aggregator=Mean(),
        streams=Streams(0),
        rounds=1,
        num_classes=2,
    )
    PASSES["count"] = 0
    federation.play()
    return PASSES["count"]


def test_nobody_goes_over_all_clients_once_for_each_of_them() -> None:
    few = passes(8)
    assert few > 0
    assert passes(32) == few
