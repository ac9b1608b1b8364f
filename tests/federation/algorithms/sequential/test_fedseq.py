"""Superclients against a plain loop of two chains and two rounds, against FedAvg, and with Byzantine members."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import EdgeCase, LabelFlip, SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import ClipUpdate, DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedSeq, Threat, private_run
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.sequential.superclients import Superclients
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.federation.selection import PowerLaw
from fedsec.federation.sharded_rounds import why_not_spread
from fedsec.seeds import Streams

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
SCHEDULE = RateSchedule("step", every=1, gamma=0.5)
Build = Callable[..., Federation]
Gradient = Callable[[Federation, Tensor, np.ndarray], Tensor]


def trained(run: Federation, gradient: Gradient, vector: Tensor, client: int, number: int) -> Tensor:
    """A client's local steps, in float64."""
    plan = plan_client(run.data, client, LOCAL, number, run.streams)
    for examples, size in zip(plan.examples, plan.sizes, strict=True):
        vector = vector - LOCAL.lr * gradient(run, vector, examples[:size])
    return vector


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
def test_two_chains_and_two_rounds_by_hand(build: Build, gradient: Gradient, engine: str) -> None:
    """Groups and orders by their streams; each member starts from its predecessor's model; chains weigh by examples."""
    run = build(FedSeq(local=LOCAL, server_lr=0.7), clients_per_round=None, engine=engine)
    drawn = Streams(3).numpy("fedseq", "superclients").permutation(4).tolist()
    model = run.parameters.double()
    for number in (1, 2):
        models, sizes, last = [], [], []
        for place, members in enumerate((sorted(drawn[:2]), sorted(drawn[2:]))):
            vector = model
            for client in np.array(members)[Streams(3).numpy("fedseq", "order", number, place).permutation(2)]:
                vector = trained(run, gradient, vector, int(client), number)
            models.append(vector)
            sizes.append(sum(len(run.data.clients[client]) for client in members))
            last.append(int(client))
        average = (sizes[0] * models[0] + sizes[1] * models[1]) / sum(sizes)
        model = model + 0.7 * (average - model)
        result = run.play()
        assert result.clients == tuple(sorted(last))
        assert result.dropped == ()
        torch.testing.assert_close(run.parameters.double(), model, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cohort", [None, 2])
def test_chains_of_one_client_are_fedavg_to_the_bit(build: Build, cohort: int | None) -> None:
    averaged, chained = (
        build(algorithm, clients_per_round=cohort, rounds=3)
        for algorithm in (
            FedAvg(local=LOCAL, server_schedule=SCHEDULE),
            FedSeq(local=LOCAL, server_schedule=SCHEDULE, superclient=1),
        )
    )
    for expected, result in zip(averaged.run(), chained.run(), strict=True):
        assert result == expected
    assert torch.equal(averaged.parameters, chained.parameters)


def test_one_chain_of_all_passes_one_model_through_all_clients(build: Build, gradient: Gradient) -> None:
    run = build(FedSeq(local=LOCAL, superclient=4), clients_per_round=None)
    vector = run.parameters.double()
    for client in Superclients(4, 4, 4, Streams(3)).chain(0, 1):
        vector = trained(run, gradient, vector, client, 1)
    run.play()
    torch.testing.assert_close(run.parameters.double(), vector, rtol=1e-4, atol=1e-5)


def test_superclients_share_out_all_clients_and_take_turns() -> None:
    groups, last = Superclients(12, 3, 6, Streams(1)), set()
    assert sorted(client for members in groups.members for client in members) == list(range(12))
    for number in range(1, 60):
        clients = groups.last(number)
        last |= {*clients}
        assert len({groups.of(client) for client in clients}) == 2
        for client in clients:
            chain = groups.chain(client, number)
            assert chain[-1] == client
            assert tuple(sorted(chain)) == groups.of(client)
    assert last == set(range(12))  # whoever has the last word is drawn anew


def test_what_a_round_costs_is_told_of_each_client_that_trained(build: Build) -> None:
    """Everybody receives a model, trains, and hands one on, as in FedAvg."""
    averaged, chained = (build(algorithm(local=LOCAL), clients_per_round=None).play() for algorithm in (FedAvg, FedSeq))
    assert averaged.cost == chained.cost


def test_running_statistics_go_through_the_chain(build: Build) -> None:
    data = build(FedSeq()).data
    split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    algorithm = FedSeq(local=LocalTraining(epochs=1, batch_fraction=1.0), superclient=4)
    more: dict[str, Any] = {"aggregator": Mean(), "streams": Streams(3), "rounds": 1, "num_classes": 3}
    run = Federation(network, CohortTrainer(network, data), split, algorithm=algorithm, **more)
    by_hand = nn.BatchNorm1d(4)
    for client in Superclients(4, 4, 4, Streams(3)).chain(0, 1):
        by_hand(data.batch(torch.from_numpy(data.clients[client]))[0].flatten(1))
    run.play()
    means = run.trainer.statistics.named(run.statistics)["1.running_mean"]
    torch.testing.assert_close(means, by_hand.running_mean)
    with pytest.raises(InputError, match=r"hand on their running statistics, too; expected average"):
        Federation(network, CohortTrainer(network, data), split, algorithm=algorithm, bn="local", **more)


@pytest.mark.parametrize("cohort", [None, 2])
def test_a_kept_run_goes_on_to_the_bit(build: Build, cohort: int | None) -> None:
    whole, first, second = (build(FedSeq(local=LOCAL), clients_per_round=cohort) for _ in range(3))
    for _ in range(3):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(2):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def many(algorithm: Any, threat: Threat | None, rule: Any) -> Federation:
    """Ten clients of two classes that a line tells apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (200,), generator=generator)
    images = (60 + 120 * labels[:, None, None, None] + torch.randint(0, 60, (200, 1, 2, 2), generator=generator)).byte()
    parts = [np.arange(begin, end) for begin, end in pairwise(range(0, 201, 20))]
    data = ResidentData.build(Split(images, labels), parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    return Federation(
        module,
        CohortTrainer(module, data),
        Split(images, labels),
        algorithm=algorithm,
        aggregator=rule,
        streams=Streams(3),
        rounds=3,
        num_classes=2,
        threat=threat,
    )


def test_a_byzantine_member_spoils_its_superclient_and_a_robust_rule_keeps_it_out() -> None:
    """Whoever flips labels in the midst of a chain is seen as its chain; a median of chains stays near honest ones."""
    byzantine, last = Superclients(10, 2, 10, Streams(3)).chain(4, 1)
    distances, seen = [], list[Tensor]()
    for rule in (Mean(), Median()):
        honest, attacked = (
            many(FedSeq(local=LOCAL), threat, rule) for threat in (None, Threat(frozenset({byzantine}), LabelFlip()))
        )
        attacked.observers.append(lambda _, __, rows: seen.append(rows.clone()))
        honest.play()
        result = attacked.play()
        assert result.byzantine == (last,)
        place = result.clients.index(result.byzantine[0])
        rows = seen[-1]
        center = rows[[other for other in range(5) if other != place]].mean(0)
        apart = (rows - center).norm(dim=1)
        assert apart.argmax() == place
        distances.append(float((attacked.parameters - honest.parameters).norm()))
    assert distances[1] < distances[0] / 2


def test_the_last_of_a_chain_forges_what_all_of_it_made(build: Build) -> None:
    """Sign flipping by its last client is a superclient's update times -3; in the midst of a chain it does nothing."""
    for position, byzantine in (("last", True), ("first", False)):
        seen: list[Tensor] = []
        threat = Threat(frozenset({1}), SignFlip(3.0))
        for given in (None, threat):
            run = build(FedSeq(local=LOCAL, attackers=position), clients_per_round=None, threat=given)
            # The attacker trains in the same place in both runs.
            run.algorithm.superclients._threat = threat
            run.observers.append(lambda _, __, rows, seen=seen: seen.append(rows.clone()))
            result = run.play()
        place = next(place for place, last in enumerate(result.clients) if 1 in run.algorithm.contributors(last))
        assert result.byzantine == ((1,) if byzantine else ())
        assert (result.clients[place] == 1) == byzantine
        torch.testing.assert_close(seen[1][place], seen[0][place] * (-3 if byzantine else 1))
        assert torch.equal(seen[1][1 - place], seen[0][1 - place])


def test_forged_chains_of_one_client_are_forged_updates_of_fedavg(build: Build) -> None:
    threat, single = Threat(frozenset({1}), SignFlip()), FedSeq(local=LOCAL, superclient=1)
    averaged, chained = (build(algorithm, threat=threat) for algorithm in (FedAvg(local=LOCAL), single))
    assert list(averaged.run()) == list(chained.run())
    assert torch.equal(averaged.parameters, chained.parameters)


def test_who_lies_about_its_examples_lies_for_its_superclient(build: Build) -> None:
    threat = Threat(frozenset({1}), LabelFlip(), claimed_examples=5.0)
    run = build(FedSeq(local=LOCAL), clients_per_round=None, threat=threat)
    result = run.play()
    claimed = {client: len(run.data.clients[client]) * (5 if client == 1 else 1) for client in range(4)}
    groups = Superclients(4, 2, 4, Streams(3))
    sizes = [sum(claimed[member] for member in groups.of(client)) for client in result.clients]
    assert result.influence == pytest.approx([size / sum(sizes) for size in sizes])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"threat": Threat(frozenset({0}), EdgeCase(0, 2, boost=3.0))},
            "EdgeCase corrupts data and forges, .*updates alone",
        ),
        ({"transforms": [ClipUpdate(1.0)]}, "ClipUpdate acts on the update of a single client"),
        ({"sampling": "poisson"}, "FedSeq draws superclients"),
        ({"selection": PowerLaw()}, "FedSeq draws superclients"),
        ({"secure_aggregation": SecureAggregation(2)}, "models that no sum hides"),
        ({"aggregator": DpFedAvg(noise_multiplier=1.0), "clients_per_round": None}, "no account of user-level privacy"),
        ({"clients_per_round": 3}, "federation.clients_per_round = 3 must be a multiple of superclient = 2"),
    ],
)
def test_what_asks_for_single_clients_is_refused(build: Build, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(FedSeq(local=LOCAL), **settings)


def test_accounts_of_examples_and_rounds_on_many_machines_are_refused(build: Build) -> None:
    with pytest.raises(InputError, match="no account of DP-SGD"):
        private_run(DpSgd(1.0), FedSeq(local=LOCAL), (8, 4, 6, 10), 5)
    run = build(FedSeq(local=LOCAL))
    why = why_not_spread(run.algorithm, (), run.aggregator, run.forgery)
    assert why.startswith("clients of FedSeq train one after another")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"superclient": 0}, "superclient must be at least 1, got 0"),
        ({"attackers": "middle"}, "attackers must be one of drawn, first, last, got 'middle'"),
        ({"weighting": "population"}, "weighting must be samples or uniform for superclients"),
        ({"local": LocalTraining(epochs=1, batch_size=3, worker_momentum=0.5)}, "send nothing of their own"),
    ],
)
def test_bad_settings_say_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FedSeq(**options)
