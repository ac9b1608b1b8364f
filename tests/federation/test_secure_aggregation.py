"""The server sees sums of clients: the mean does not notice, robust rules see groups, others are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import Adaptive, NaN, SignFlip
from fedsec.defense import Aggregate, Pipeline
from fedsec.defenses import (
    NNM,
    ClipUpdate,
    DpFedAvg,
    FLTrust,
    FoolsGold,
    Krum,
    Mean,
    Median,
    NormBound,
    StaticClip,
)
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedGKT, Scaffold, Stragglers, Threat
from fedsec.federation.guards import RunDescription, problems
from fedsec.federation.secure_aggregation import Groups, SecureAggregation
from fedsec.seeds import Streams

LOCAL = LocalTraining(epochs=1, batch_size=4, lr=0.1)


@pytest.mark.parametrize(
    ("cohort", "clients", "sizes"), [(8, 4, [4, 4]), (9, 4, [4, 5]), (11, 3, [3, 4, 4]), (4, 4, [4])]
)
def test_no_sum_has_fewer_clients(cohort: int, clients: int, sizes: list[int]) -> None:
    groups = SecureAggregation(clients).groups(cohort, 1, Streams(0)).places
    assert sorted(map(len, groups)) == sizes
    assert sorted(place for places in groups for place in places) == list(range(cohort))


def test_groups_are_drawn_anew_each_round_and_again_in_a_repetition() -> None:
    protocol = SecureAggregation(3)
    first = protocol.groups(12, 1, Streams(0))
    assert first == protocol.groups(12, 1, Streams(0))
    assert first != protocol.groups(12, 2, Streams(0))


def test_a_sum_of_one_and_a_round_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="hides nobody"):
        SecureAggregation(1)
    with pytest.raises(InputError, match="round 3: 2 clients take part, too few for a sum of 4"):
        SecureAggregation(4).groups(2, 3, Streams(0))


def test_verdicts_on_groups_are_verdicts_on_their_clients() -> None:
    groups = Groups(((0, 3), (1, 2)))
    aggregate = Aggregate(
        torch.zeros(1), torch.tensor([0.75, 0.25]).double(), (1,), (1,), torch.tensor([0.5, 0.5]).double()
    )
    ours = groups.of_clients(aggregate, torch.tensor([1.0, 1.0, 3.0, 2.0]))
    torch.testing.assert_close(ours.influence, torch.tensor([0.25, 0.0625, 0.1875, 0.5]).double())
    assert (ours.rejected, ours.suspected) == ((1, 2), (1, 2))
    assert ours.weights is not None
    torch.testing.assert_close(ours.weights, torch.tensor([1 / 6, 1 / 8, 3 / 8, 1 / 3]).double())


def test_sums_are_weighted_by_what_the_average_weighs() -> None:
    rows, weights = torch.tensor([[1.0], [2.0], [5.0], [7.0]]), torch.tensor([1.0, 1.0, 3.0, 1.0])
    groups = Groups(((0, 2), (1, 3)))
    torch.testing.assert_close(groups.sums(rows, weights), torch.tensor([[4.0], [4.5]]))
    torch.testing.assert_close(groups.weights(weights), torch.tensor([4.0, 2.0]))


def federation(build: Callable[..., Federation], clients: int | None, **more: Any) -> Federation:
    protocol = None if clients is None else SecureAggregation(clients)
    return build(FedAvg(local=LOCAL), clients_per_round=4, secure_aggregation=protocol, **more)


@pytest.mark.parametrize("clients", [2, 3, 4])
def test_the_mean_does_not_notice(build: Callable[..., Federation], clients: int) -> None:
    plain, summed = federation(build, None), federation(build, clients)
    ours, theirs = [summed.play() for _ in range(2)], [plain.play() for _ in range(2)]
    torch.testing.assert_close(summed.parameters, plain.parameters)
    assert ours[-1].influence == pytest.approx(theirs[-1].influence)


def test_observers_see_sums_and_nothing_else(build: Callable[..., Federation]) -> None:
    plain, summed, rows, sums = federation(build, None), federation(build, 2), list[Tensor](), list[Any]()
    plain.row_observers.append(lambda number, clients, received: rows.append(received.clone()))
    summed.sum_observers.append(lambda number, groups, received: sums.append((groups, received.clone())))
    plain.play()
    summed.play()
    ((groups, received),) = sums
    weights = plain.coefficients(range(4))
    for clients, row in zip(groups, received, strict=True):
        torch.testing.assert_close(row, weights[clients] @ rows[0][clients] / weights[clients].sum())
    summed.row_observers.append(lambda number, clients, received: None)
    with pytest.raises(InputError, match="looks at single clients' updates"):
        summed.play()


def test_one_client_that_is_not_finite_costs_its_group(build: Callable[..., Federation]) -> None:
    attack = Threat(frozenset({1}), NaN())
    plain, grouped, whole = (federation(build, clients, threat=attack) for clients in (None, 2, 4))
    assert plain.play().rejected == (1,)
    lost = grouped.play().rejected
    assert len(lost) == 2
    assert 1 in lost
    assert whole.play().diverged


def test_a_rule_over_groups_withstands_as_many_attackers_as_groups(
    build: Callable[..., Federation],
) -> None:
    summed = build(
        FedAvg(local=LOCAL),
        aggregator=Median(),
        clients_per_round=4,
        secure_aggregation=SecureAggregation(2),
        threat=Threat(frozenset({0}), SignFlip(scale=1e3)),
    )
    result = summed.play()
    assert result.withstands == 0  # of two sums
    assert len(result.influence) == 4


def run(**more: Any) -> RunDescription:
    settings = {"rule": Mean(), "secure_aggregation": SecureAggregation(3), **more}
    return RunDescription(settings.pop("algorithm", FedAvg()), clients=12, cohort=12, **settings)


@pytest.mark.parametrize(
    "sound",
    [
        run(),
        run(secure_aggregation=SecureAggregation(12)),
        run(transforms=[ClipUpdate(1.0)]),
        run(rule=Median()),
        run(rule=Pipeline([NNM(num_byzantine=1), Median()])),
        run(attack=Adaptive(), num_byzantine=2),  # of the mean, which does not notice
        run(algorithm=FedAvg(stragglers=Stragglers(0.5, "drop"))),
    ],
)
def test_what_sums_are_enough_for_passes(sound: RunDescription) -> None:
    assert list(problems(sound)) == []


@pytest.mark.parametrize(
    ("wrong", "place", "why"),
    [
        (
            run(secure_aggregation=SecureAggregation(13)),
            "federation.secure_aggregation",
            "needs as many in a",
        ),
        (run(sampling="poisson"), "federation.secure_aggregation", "left to chance"),
        (run(running_statistics=True), "federation.secure_aggregation", "no part of the sum"),
        (run(algorithm=Scaffold()), "federation.secure_aggregation", "server of Scaffold looks at"),
        (run(algorithm=FedGKT(), rule=None), "federation.secure_aggregation", "FedGKT sends no updates"),
        (
            run(rule=Median(), secure_aggregation=SecureAggregation(12)),
            "defense",
            "Median compares rows",
        ),
        (run(rule=Krum(num_byzantine=2)), "defense", "needs"),  # at least 7 rows, of which there are 4
        (run(rule=NormBound(1.0)), "defense", "NormBound bounds each client's length"),
        (run(rule=Pipeline([StaticClip(1.0), Mean()])), "defense", "StaticClip bounds each client's length"),
        (run(rule=FoolsGold()), "defense", "FoolsGold remembers what each client sent"),
        (run(rule=FLTrust(), server_data=True), "defense", "FLTrust compares each client"),
        (run(rule=DpFedAvg(noise_multiplier=1.0)), "defense", "DpFedAvg bounds each client's update at the server"),
        (
            run(rule=Median(), attack=Adaptive(), num_byzantine=1),
            "attack",
            "Adaptive tries the server's rule",
        ),
    ],
)
def test_what_needs_single_clients_is_refused(wrong: RunDescription, place: str, why: str) -> None:
    (problem,) = problems(wrong)
    assert problem[0] == place
    assert why in problem[1]
