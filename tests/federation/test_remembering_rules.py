"""Federations whose server's rule remembers clients: by their numbers, through a checkpoint, a rule for each vector."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator
from fedsec.defenses import FLDetector, FoolsGold
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import FedAvg, Federation, Scaffold, UpdateAlgorithm
from fedsec.seeds import Streams

LOCAL = LocalTraining(steps=2, batch_size=4, lr=0.3)


def federation(algorithm: UpdateAlgorithm, rule: Aggregator, clients_per_round: int) -> Federation:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (48, 1, 2, 2), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (48,), generator=generator))
    data = ResidentData.build(
        split, np.array_split(np.arange(48), 8), Normalization((0.0,), (1.0,)), torch.device("cpu")
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    return Federation(
        module,
        CohortTrainer(module, data),
        split,
        algorithm=algorithm,
        aggregator=rule,
        streams=Streams(0),
        rounds=8,
        num_classes=3,
        clients_per_round=clients_per_round,
    )


@pytest.mark.parametrize("algorithm", [FedAvg(local=LOCAL), Scaffold(local=LOCAL)])
@pytest.mark.parametrize(("make", "clients_per_round"), [(FoolsGold, 3), (lambda: FLDetector(2, 2), 8)])
def test_a_restored_run_ends_with_the_same_bits(
    algorithm: UpdateAlgorithm, make: Callable[[], Aggregator], clients_per_round: int
) -> None:
    whole, half, resumed = (federation(algorithm, make(), clients_per_round) for _ in range(3))
    results = list(whole.run())
    for _ in range(5):
        half.play()
    resumed.restore({name: tensor.clone() for name, tensor in half.state().items()}, 5)
    half.play()
    assert list(resumed.run()) == results[5:]
    assert torch.equal(resumed.parameters, whole.parameters)
    assert all(result.suspected is not None for result in results)


def test_clients_are_remembered_by_their_numbers() -> None:
    fed = federation(FedAvg(local=LOCAL), FoolsGold(), clients_per_round=3)
    seen = {client for _ in range(3) for client in fed.play().clients}
    assert {*fed.state()["rule.clients"].tolist()} == seen
