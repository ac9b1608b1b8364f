"""FedProx and its stragglers. That its gradient is the formula's is shown in test_objectives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean, TrimmedMean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedProx, Stragglers
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.seeds import Streams

LOCAL = LocalTraining(epochs=3, batch_size=2, lr=0.5, momentum=0.5)


def federation(algorithm: UpdateAlgorithm, clients: int = 6, **more: Any) -> Federation:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8 * clients, 1, 2, 2), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (8 * clients,), generator=generator))
    parts = list(np.arange(8 * clients).reshape(clients, 8))
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    return Federation(
        module,
        CohortTrainer(module, data),
        split,
        algorithm=algorithm,
        aggregator=more.pop("aggregator", None) or Mean(),
        streams=Streams(0),
        rounds=4,
        num_classes=3,
        **more,
    )


def played(algorithm: UpdateAlgorithm, rounds: int = 3) -> Federation:
    fed = federation(algorithm)
    for _ in range(rounds):
        fed.play()
    return fed


def test_without_proximal_term_and_stragglers_it_is_fedavg_to_the_bit() -> None:
    averaged, near = played(FedAvg(local=LOCAL)), played(FedProx(local=LOCAL, mu=0.0))
    assert torch.equal(averaged.parameters, near.parameters)
    assert not torch.equal(near.parameters, played(FedProx(local=LOCAL, mu=0.5)).parameters)


def test_the_stronger_the_term_the_nearer_clients_stay() -> None:
    lengths = []
    for mu in (0.0, 0.1, 1.0):
        fed = federation(FedProx(local=LOCAL, mu=mu))
        lengths.append(fed.local_updates(fed.start(range(6)), range(6), 1).updates.norm(dim=1).mean().item())
    assert lengths[0] > 1.02 * lengths[1] > 1.02**2 * lengths[2]


def test_dropped_stragglers_are_not_waited_for_and_others_are_slow_each_round() -> None:
    fed = federation(FedAvg(local=LOCAL, stragglers=Stragglers(0.5, "drop")))
    results = [fed.play() for _ in range(4)]
    assert all(len(result.clients) == len(result.dropped) == 3 for result in results)
    assert all(sorted(result.clients + result.dropped) == list(range(6)) for result in results)
    assert len({result.dropped for result in results}) > 1
    assert all(result.cost is not None and result.cost.flops == results[0].cost.flops for result in results)  # type: ignore[union-attr]


def test_partial_work_is_the_first_steps_of_the_whole_work() -> None:
    slow = Stragglers(0.5, "partial")
    fed, whole = federation(FedProx(local=LOCAL, stragglers=slow)), federation(FedProx(local=LOCAL))
    clients = list(range(6))
    behind = slow.among(clients, 1, Streams(0))
    found = fed.local_updates(fed.start(clients), clients, 1)
    complete = whole.local_updates(whole.start(clients), clients, 1)
    assert len(behind) == 3
    for client in clients:
        steps = found.examples[client] // 2
        if client in behind:
            assert steps == slow.steps(client, 12, 1, Streams(0))
            assert 1 <= steps < 12
            shorter = federation(
                FedProx(local=LocalTraining(steps=int(steps), batch_size=2, lr=0.5, momentum=0.5))
            ).local_updates(fed.start([client]), [client], 1)
            assert found.examples[client] == shorter.examples[0]
            assert not torch.equal(found.updates[client], complete.updates[client])
        else:
            assert torch.equal(found.updates[client], complete.updates[client])
    assert len(fed.play().clients) == 6


def test_steps_of_stragglers_cover_everything_from_one_to_all_but_one() -> None:
    slow, streams = Stragglers(0.9, "partial"), Streams(1)
    assert {slow.steps(client, 4, 1, streams) for client in range(60)} == {1, 2, 3}
    assert slow.steps(0, 1, 1, streams) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FedProx(mu=-0.1), "mu must be finite in float32 and not negative, got -0.1"),
        (lambda: FedProx(mu=float("inf")), "mu must be finite in float32 and not negative, got inf"),
        (lambda: FedProx(mu=1e39), "mu must be finite in float32 and not negative, got 1e"),
        (lambda: Stragglers(1.0, "drop"), "fraction must lie in \\[0, 1\\), got 1.0"),
        (lambda: Stragglers(0.5, "wait"), "drop or partial, got 'wait'"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_say_what_was_expected(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_a_rule_must_work_with_those_who_are_heard() -> None:
    slow = FedAvg(local=LOCAL, stragglers=Stragglers(0.5, "drop"))
    with pytest.raises(InputError, match="leaves none of 3"):
        federation(slow, aggregator=TrimmedMean(num_trimmed_per_side=2))
    assert slow.fewest(6) == 3
    assert replace(slow, stragglers=Stragglers(0.5, "partial")).fewest(6) == 6
    assert Stragglers(0.3, "drop").count(10) == 3  # 0.3 x 10 is a little less in binary
