"""A small federation without a server."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import Decentralized, FedAvg, Federation, GossipFederation, Graph
from fedsec.federation.rounds import RoundLoop
from fedsec.seeds import Streams

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)


@pytest.fixture
def build() -> Callable[..., Any]:
    """Makes a federation of so many clients and a linear model, without a server or, with `fedavg`, with one."""

    def build(graph: Graph | None = None, clients: int = 4, *, fedavg: bool = False, **more: Any) -> RoundLoop:
        generator = torch.Generator().manual_seed(0)
        sizes = [4 + 2 * (client % 3) for client in range(clients)]
        images = torch.randint(0, 256, (sum(sizes), 1, 2, 2), dtype=torch.uint8, generator=generator)
        split = Split(images, torch.randint(0, 3, (sum(sizes),), generator=generator))
        parts = [np.arange(begin, end) for begin, end in pairwise(np.cumsum([0, *sizes]))]
        data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        trainer = CohortTrainer(module, data, engine=more.pop("engine", "auto"))
        common: dict[str, Any] = {"streams": Streams(3), "num_classes": 3, "rounds": 4, **more}
        local = common.pop("local", LOCAL)
        if fedavg:
            algorithm = FedAvg(local=local, weighting="uniform")
            return Federation(module, trainer, split, algorithm=algorithm, aggregator=Mean(), **common)
        rule = common.pop("rule", None)
        common |= {"rule": rule or Mean(), "linear": rule is None}
        algorithm = Decentralized(local, graph or Graph(), common.pop("pairwise", None))
        return GossipFederation(module, trainer, split, algorithm=algorithm, **common)

    return build
