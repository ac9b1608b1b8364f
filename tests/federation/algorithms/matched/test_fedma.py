"""FedMA against two clients and two rounds by hand, against FedAvg, and under attack."""

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedMA, Threat, UpdateAlgorithm, private_run
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.seeds import Streams
from fedsec.threat import UpdatePoisoning

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
HIDDEN = 3


def federation(algorithm: UpdateAlgorithm, clients: int = 2, **more: Any) -> Federation:
    """A hidden layer of three neurons, and clients of six examples each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6 * clients, 1, 2, 2), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 2, (6 * clients,), generator=generator))
    parts = [np.arange(6 * client, 6 * client + 6) for client in range(clients)]
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2))
    settings: dict[str, Any] = {"aggregator": Mean(), "rounds": 5, "privacy": None, **more}
    trainer = CohortTrainer(module, data, engine=settings.pop("engine", "auto"))
    return Federation(module, trainer, split, algorithm=algorithm, streams=Streams(3), num_classes=2, **settings)


def pieces(vector: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return vector[:12].view(HIDDEN, 4), vector[12:15], vector[15:21].view(2, HIDDEN), vector[21:]


def reordered(vector: Tensor, order: Sequence[int]) -> Tensor:
    weight, bias, above, logits = pieces(vector)
    places = list(order)
    return torch.cat((weight[places].flatten(), bias[places], above[:, places].flatten(), logits))


def best(reference: Tensor, vector: Tensor) -> Tensor:
    """The copy of a network, of all there are, whose first layer is nearest to the reference's."""
    copies = [reordered(vector, order) for order in permutations(range(HIDDEN))]
    return min(copies, key=lambda copy: float((copy[:15] - reference[:15]).square().sum()))


def trained(run: Federation, vector: Tensor, client: int, number: int) -> Tensor:
    """A client's local steps, in float64."""
    plan = plan_client(run.data, client, LOCAL, number, run.streams)
    for examples, size in zip(plan.examples, plan.sizes, strict=True):
        images, labels = run.data.batch(torch.from_numpy(examples[:size]))
        leaf = vector.detach().clone().requires_grad_()
        weight, bias, above, logits = pieces(leaf)
        hidden = torch.tanh(images.flatten(1).double() @ weight.T + bias)
        loss = nn.functional.cross_entropy(hidden @ above.T + logits, labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
        vector = vector - LOCAL.lr * gradient
    return vector


@pytest.mark.parametrize(("beginning", "engine"), [*product(("common", "own"), ("vectorized", "loop"))])
def test_two_clients_and_two_rounds_by_hand(beginning: Any, engine: str) -> None:
    run = federation(FedMA(local=LOCAL, beginning=beginning), engine=engine)
    model = run.parameters.double()
    starts = [row.double() for row in run.starts([0, 1])] if beginning == "own" else [model, model]
    for number in (1, 2):
        networks = [trained(run, start, client, number) for client, start in enumerate(starts)]
        # Of two networks each is as far from the other: the first is the reference.
        reference = networks[0] if beginning == "own" and number == 1 else model
        model = (best(reference, networks[0]) + best(reference, networks[1])) / 2
        starts = [model, model]
        run.play()
        torch.testing.assert_close(run.parameters.double(), model, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_permuted_it_is_federated_averaging() -> None:
    averaged, matched, null = (
        federation(algorithm, clients=4)
        for algorithm in (FedAvg(local=LOCAL), FedMA(local=LOCAL), FedMA(local=LOCAL, match="none"))
    )
    for _ in range(2):
        metrics = averaged.play().metrics
        assert matched.play().metrics == null.play().metrics == metrics
    assert torch.equal(averaged.parameters, matched.parameters)
    assert torch.equal(averaged.parameters, null.parameters)


class Permute(UpdatePoisoning):
    """Byzantine clients send the same network, its neurons in another order."""

    knowledge = "own"

    def __init__(self, sent_out: Tensor) -> None:
        self.sent_out = sent_out

    def forge(self, view: Any) -> Tensor:
        rows = [reordered(self.sent_out + row, (1, 2, 0)) - self.sent_out for row in view.own]
        return torch.stack(rows)


def test_copies_of_one_network_are_averaged_to_that_network() -> None:
    """What a server received is permuted at random, of networks which it has never seen."""
    run = federation(FedMA(local=LOCAL, beginning="own"), clients=4)
    algorithm, state = run.algorithm, run.algorithm_state
    network = torch.randn(23, generator=torch.Generator().manual_seed(1))
    copies = torch.stack([reordered(network, order) for order in ((0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0))])
    changes = copies - run.starts(range(4))
    matched = algorithm.received(state, range(4), {"update": changes})["update"] + state["parameters"]
    for row in matched:
        torch.testing.assert_close(row, matched[0], rtol=1e-5, atol=1e-6)
    inputs = torch.randn(5, 4)
    layout = run.trainer.layout
    logits = []
    for vector in (network, matched.mean(0), copies.mean(0)):
        layout.load(run.module, vector)
        logits.append(run.module(inputs))
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    assert (logits[2] - logits[0]).abs().max() > 0.1


def test_who_only_permutes_its_neurons_changes_nothing() -> None:
    small = LocalTraining(epochs=1, batch_size=3, lr=0.01)
    runs = []
    for algorithm, attacked in ((FedMA(local=small), False), (FedMA(local=small), True), (FedAvg(local=small), True)):
        run = federation(algorithm, clients=3)
        if attacked:
            run = federation(algorithm, clients=3, threat=Threat(frozenset({1}), Permute(run.parameters)))
        run.play()
        runs.append(run.parameters)
    torch.testing.assert_close(runs[1], runs[0])
    assert (runs[2] - runs[0]).norm() > 0.1


@pytest.mark.parametrize("beginning", ["common", "own"])
def test_a_robust_rule_keeps_an_attack_out(beginning: Any) -> None:
    algorithm, threat, runs = FedMA(local=LOCAL, beginning=beginning), Threat(frozenset({0}), SignFlip(scale=1e3)), []
    for rule, attack in ((Median(), None), (Median(), threat), (Mean(), threat)):
        run = federation(algorithm, clients=5, aggregator=rule, threat=attack)
        before = run.parameters
        run.play()
        runs.append((run.parameters - before).norm())
    honest, robust, mean = runs
    assert robust < 3 * honest < mean / 20


def test_a_byzantine_row_moves_nobody_elses_matching() -> None:
    run = federation(FedMA(local=LOCAL), clients=3)
    rows = 3 * torch.randn(3, 23, generator=torch.Generator().manual_seed(2))
    first = run.algorithm.received(run.algorithm_state, range(3), {"update": rows})["update"]
    for forged in (torch.full((23,), 1e30), torch.full((23,), torch.nan)):
        other = torch.stack((forged, rows[1], rows[2]))
        after = run.algorithm.received(run.algorithm_state, range(3), {"update": other})["update"]
        assert torch.equal(after[1:], first[1:])
        assert torch.equal(after[0].isnan(), forged.isnan())


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_kept_run_goes_on_to_the_bit(rounds: int) -> None:
    whole, first, second = (federation(FedMA(local=LOCAL, beginning="own"), clients=4) for _ in range(3))
    for _ in range(3):
        whole.play()
    for _ in range(rounds):
        first.play()
    second.restore(first.state(), rounds)
    for _ in range(3 - rounds):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_networks_of_clients_own_are_drawn_like_the_initial_one() -> None:
    run = federation(FedMA(local=LOCAL, beginning="own"), clients=3)
    rows, initial = run.starts([0, 1, 2]), run.parameters
    assert torch.equal(run.starts([2])[0], rows[2])
    for one, other in ((rows[0], rows[1]), (rows[0], initial), (rows[1], rows[2])):
        assert not torch.equal(one, other)
    for own, drawn in zip(pieces(rows[1]), pieces(initial), strict=True):
        assert torch.equal(own.flatten().sort().values, drawn.flatten().sort().values)
    run.play()
    assert run.starts([0]).ndim == 1


def test_observers_see_matched_rows() -> None:
    small, seen = LocalTraining(epochs=1, batch_size=3, lr=0.01), list[Tensor]()
    run = federation(FedMA(local=small), clients=3)
    run = federation(FedMA(local=small), clients=3, threat=Threat(frozenset({1}), Permute(run.parameters)))
    run.observers.append(lambda _, __, rows: seen.append(rows.clone()))
    run.play()
    assert seen[0][1].norm() < 0.1


def test_dp_sgd_goes_with_it_and_what_needs_single_rows_does_not() -> None:
    algorithm, privacy = private_run(DpSgd(1.0), FedMA(local=LOCAL), (6, 6), 5)
    assert federation(algorithm, privacy=privacy).play().epsilon is not None
    refused: Mapping[str, Mapping[str, Any]] = {
        "no account of user-level privacy": {"aggregator": DpFedAvg(noise_multiplier=1.0)},
        "looks at what single clients sent": {"secure_aggregation": SecureAggregation(2)},
    }
    for message, settings in refused.items():
        with pytest.raises(InputError, match=message):
            federation(FedMA(local=LOCAL), **settings)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"beginning": "mine"}, "beginning must be common or own, got 'mine'"),
        ({"match": "all"}, "match must be weights or none, got 'all'"),
        (
            {"local": LocalTraining(epochs=1, batch_size=3, worker_momentum=0.5)},
            "FedMA matches the networks of a single",
        ),
    ],
)
def test_bad_settings_say_what_was_expected(more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FedMA(**more)
