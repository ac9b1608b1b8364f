"""Gossip against D-PSGD written out in plain loops, against FedAvg, and through checkpoints."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import LabelFlip, Mimic, SignFlip
from fedsec.defenses import DpFedAvg, FLTrust, Mean, Median
from fedsec.engine import LocalTraining
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError
from fedsec.federation import Decentralized, GossipFederation, Graph, Threat
from fedsec.federation.algorithms.local_steps import plan_client

Build = Callable[..., Any]


class Trains(SignFlip):
    trains = True


class LooksBack(SignFlip):
    needs_last_aggregate = True


def trained(run: GossipFederation, client: int, number: int, parameters: Tensor) -> Tensor:
    """What plain SGD makes of a linear model on a client's batches, in float64."""
    plan, x = plan_client(run.data, client, run.algorithm.local, number, run.streams), parameters.clone()
    for examples, size in zip(plan.examples, plan.sizes, strict=True):
        images, labels = run.data.batch(torch.from_numpy(examples[:size]))
        leaf = x.clone().requires_grad_()
        logits = images.flatten(1).double() @ leaf[:12].view(3, 4).T + leaf[12:]
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), leaf)
        x = x - run.algorithm.local.lr * gradient
    return x


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_two_clients_and_two_rounds_by_hand(build: Build, engine: str) -> None:
    given = [[0.75, 0.25], [0.25, 0.75]]
    run = build(Graph("ring", mixing="given", weights=given), 2, engine=engine)
    one = two = run.models[0].double()
    for number in (1, 2):
        run.play()
        first, second = trained(run, 0, number, one), trained(run, 1, number, two)
        one, two = 0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second
        torch.testing.assert_close(run.models.double(), torch.stack([one, two]), rtol=1e-5, atol=1e-6)
    distance = float(((one - two) / 2).norm())  # each is half of it from the middle
    assert run.consensus_distance() == pytest.approx(distance, rel=1e-4)


def test_on_a_ring_only_neighbors_are_heard_and_the_mean_stays(build: Build) -> None:
    run = build(Graph("ring"), 5)
    start = run.models[0].double()
    after = [trained(run, client, 1, start) for client in range(5)]
    run.play()
    for client in range(5):
        expected = (after[client - 1] + after[client] + after[(client + 1) % 5]) / 3
        torch.testing.assert_close(run.models[client].double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(run.models.double().mean(0), torch.stack(after).mean(0), rtol=1e-5, atol=1e-6)


def test_where_all_are_neighbors_with_equal_weights_it_is_fedavg(build: Build) -> None:
    local = LocalTraining(epochs=2, batch_size=3, lr=0.3, momentum=0.5)
    run, fedavg = build(Graph("complete", mixing="uniform"), local=local), build(fedavg=True, local=local)
    for _ in range(3):
        result, other = run.play(), fedavg.play()
        torch.testing.assert_close(run.models, fedavg.parameters.expand(4, -1), rtol=1e-5, atol=1e-6)
        assert run.consensus_distance() < 1e-6
        assert result.metrics["accuracy"] == pytest.approx(other.metrics["accuracy"])
        assert result.client_values == (result.metrics["accuracy"],) * 4
        assert result.influence == pytest.approx((0.25,) * 4)


def test_a_product_of_matrices_is_what_clients_work_out_one_by_one(build: Build) -> None:
    graph = Graph("edges", edges=[[0, 1], [1, 2], [1, 3], [3, 4]])
    run, slow = build(graph, 5), build(graph, 5, rule=Mean())
    for _ in range(2):
        one, other = run.play(), slow.play()
        torch.testing.assert_close(run.models, slow.models, rtol=1e-5, atol=1e-6)
        assert one.influence == pytest.approx(other.influence)
    assert one.metrics["spectral_gap"] == pytest.approx(run.gap)


def test_costs_are_a_model_for_each_neighbor(build: Build) -> None:
    cost = build(Graph("edges", edges=[[0, 1], [1, 2]]), 3).play().cost
    assert cost.upload_bytes == cost.download_bytes == pytest.approx(4 / 3 * 15 * 4)


@pytest.mark.parametrize("rule", [None, Median()])
def test_it_goes_on_from_a_kept_state_to_the_bit(build: Build, rule: Any) -> None:
    threat = Threat(frozenset({1}), SignFlip())
    whole, first, second = (build(Graph("ring"), 5, rule=rule, threat=threat) for _ in range(3))
    for _ in range(4):
        whole.play()
    for _ in range(2):
        first.play()
    second.restore({name: tensor.clone() for name, tensor in first.state().items()}, 2)
    for _ in range(2):
        second.play()
    assert torch.equal(whole.models, second.models)
    with pytest.raises(InputError, match="a kept state has"):
        second.restore({"models": first.models}, 2)


def test_local_rates_follow_their_schedule(build: Build) -> None:
    slow = LocalTraining(epochs=1, batch_size=3, lr=0.3, schedule=RateSchedule("step", every=1, gamma=0.5))
    scheduled, halved = build(local=slow), build(local=LocalTraining(epochs=1, batch_size=3, lr=0.15))
    scheduled.play()
    halved.models, halved.round = scheduled.models.clone(), 1
    scheduled.play(), halved.play()
    assert torch.equal(scheduled.models, halved.models)


def test_engines_agree(build: Build) -> None:
    loop, vectorized = build(engine="loop"), build(engine="vectorized")
    for _ in range(3):
        loop.play(), vectorized.play()
    torch.testing.assert_close(loop.models, vectorized.models, rtol=1e-5, atol=1e-6)


def test_running_statistics_stay_with_the_clients(build: Build) -> None:
    run = build()
    assert run.state().keys() == {"models", "statistics"}
    assert {name: tuple(rows.shape) for name, rows in run.weights().items()} == {
        "clients.1.weight": (4, 3, 4),
        "clients.1.bias": (4, 3),
    }


def test_data_are_poisoned_where_attackers_train(build: Build) -> None:
    threat = Threat(frozenset({0}), LabelFlip())
    honest, poisoned = build(Graph("ring"), 5), build(Graph("ring"), 5, threat=threat)
    honest.play(), poisoned.play()
    changed = (honest.models != poisoned.models).any(1)
    assert changed.tolist() == [True, True, False, False, True]  # the attacker and its neighbors


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"clients_per_round": 2}, "all clients exchange models in every round"),
        ({"rule": DpFedAvg(noise_multiplier=1.0)}, "hides clients in what a server releases"),
        ({"rule": FLTrust()}, "has no server"),
        ({"threat": Threat(frozenset({0}), SignFlip(), claimed_examples=3)}, "weighed by a number of examples"),
        ({"threat": Threat(frozenset({0}), Trains())}, "trains from what a server sent"),
        ({"threat": Threat(frozenset({0}), LooksBack())}, "looks at a server's last step"),
        ({"threat": Threat(frozenset({0}), Mimic())}, "remembers one row of each attacker"),
        ({"local": LocalTraining(epochs=1, batch_size=2, worker_momentum=0.5)}, "send models, and no updates"),
    ],
)
def test_what_needs_a_server_is_refused(build: Build, more: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        build(**more)


def test_it_is_one_row_of_the_table() -> None:
    from fedsec.federation import ALGORITHMS

    assert ALGORITHMS["decentralized"] is Decentralized
    assert Decentralized.exchanges == "models"
    assert np.isfinite(Decentralized().local.lr)
