"""Distributed noise: what a client sends, what a sum has of it, and an account of the fewest that a sum may have."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedsec.attacks import LabelFlip, MinMax, SignFlip
from fedsec.defenses import ClipUpdate, DistributedDp, Mean, Median
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Scaffold, Threat
from fedsec.federation.guards import RunDescription, problems
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.federation.secure_sums.dropouts import Dropouts
from fedsec.federation.secure_sums.noise_account import noise_account
from fedsec.federation.secure_sums.pairwise_masks import PairwiseMasks
from fedsec.federation.secure_sums.row_sums import RowSums
from fedsec.privacy import Spending, epsilon
from tests.federation.conftest import build  # noqa: F401


def test_a_client_sends_a_bounded_update_and_an_nth_of_the_variance() -> None:
    update = torch.full((40_000,), 0.05)  # of length 10
    sent = DistributedDp(2.0, clients=16, clip_norm=1.0)(update, generator=torch.Generator().manual_seed(0))
    noise = sent - update / 10
    assert float(noise.std()) == pytest.approx(2.0 / 4, rel=0.02)
    assert abs(float(noise.mean())) < 5 * 0.5 / 200
    nothing = DistributedDp(0.0, clients=16, clip_norm=1.0)(update)
    assert float(nothing.double().norm()) == pytest.approx(1.0)


def run(**more: Any) -> RunDescription:
    settings: dict[str, Any] = {"rule": Mean(), "transforms": [DistributedDp(1.0, 6, 0.5)], **more}
    algorithm = settings.pop("algorithm", FedAvg(weighting="uniform"))
    settings.setdefault("secure_aggregation", SecureAggregation(6))
    return RunDescription(algorithm, clients=12, cohort=12, **settings)


PROTOCOL = RowSums(PairwiseMasks(32), clip=3.0, dropouts=Dropouts(before_upload=0.1))


@pytest.mark.parametrize(
    ("more", "noises"),
    [
        ({}, 6),
        ({"secure_aggregation": SecureAggregation(12)}, 12),
        ({"secure_aggregation": None}, 1),
        ({"secure_aggregation": SecureAggregation(6, PROTOCOL)}, 5),  # the threshold: more than two thirds of six
        ({"attack": SignFlip(), "num_byzantine": 2}, 4),
        ({"attack": LabelFlip(), "num_byzantine": 2}, 6),  # who poisons data adds noise as it should
        ({"attack": SignFlip(), "num_byzantine": 2, "secure_aggregation": SecureAggregation(6, PROTOCOL)}, 3),
    ],
)
def test_the_account_is_of_the_fewest_noises_that_a_sum_may_have(more: dict[str, Any], noises: int) -> None:
    described = run(**more)
    assert [*problems(described)] == []
    account = noise_account(described)
    assert account is not None
    assert account.cost == Spending(math.sqrt(noises / 6), 1.0, 1)
    for _ in range(3):
        account.spend()
    expected = epsilon([Spending(math.sqrt(noises / 6), 1.0, 3)], 12**-1.1)
    assert account.epsilon().value == pytest.approx(expected.value)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"algorithm": FedAvg()}, "expected weighting: uniform"),
        ({"algorithm": Scaffold(weighting="uniform")}, "no account of user-level privacy is known"),
        ({"transforms": [DistributedDp(1.0, 6), ClipUpdate(1.0)]}, "expected nothing after it"),
        ({"attack": MinMax(), "num_byzantine": 1}, "looks at single updates"),
        ({"attack": SignFlip(), "num_byzantine": 6}, "so that none is sure"),
        ({"private": True}, "take their noise with them"),
        ({"running_statistics": True, "bn": "average", "secure_aggregation": None}, "without noise, and void epsilon"),
        ({"secure_aggregation": SecureAggregation(6, RowSums(PairwiseMasks(), clip=1.0))}, "noise that is cut"),
        (
            {"secure_aggregation": SecureAggregation(6, RowSums(PairwiseMasks(), clip=3.0, fraction_bits=6))},
            "steps of 2^-6 are not small",
        ),
    ],
)
def test_what_would_void_the_account_is_refused(more: dict[str, Any], why: str) -> None:
    assert why in " ".join(message for _, message in problems(run(**more)))


def test_whatever_a_rule_makes_of_sums_is_covered() -> None:
    assert [*problems(run(rule=Median(), secure_aggregation=SecureAggregation(4)))] == []


def federation(build: Callable[..., Any], transforms: list[Any], **more: Any) -> Any:  # noqa: F811
    algorithm = FedAvg(local=LocalTraining(epochs=1, batch_size=4, lr=0.1), weighting="uniform")
    return build(algorithm, clients_per_round=4, transforms=transforms, **more)


def test_sums_have_all_clients_noise_and_rounds_spend(build: Callable[..., Any]) -> None:  # noqa: F811
    sums = SecureAggregation(4)
    noisy = federation(build, [DistributedDp(3.0, 4, 0.1)], secure_aggregation=sums)
    other = federation(build, [DistributedDp(6.0, 4, 0.1)], secure_aggregation=sums)
    plain = federation(build, [ClipUpdate(0.1)], secure_aggregation=sums)
    results = [one.play() for one in (noisy, other, plain)]
    noises = [one.parameters - plain.parameters for one in (noisy, other)]
    # Each of 15 coordinates of the mean of four has 3 x 0.1 / 4.
    assert 0.04 < float(noises[0].std()) < 0.12
    assert abs(float(torch.corrcoef(torch.stack(noises))[0, 1])) < 0.8, "another noise is drawn anew"
    assert results[2].user_epsilon is None
    assert results[0].user_epsilon == pytest.approx(epsilon([Spending(3.0, 1.0, 1)], 4**-1.1).value)
    restored = federation(build, [DistributedDp(3.0, 4, 0.1)], secure_aggregation=sums)
    restored.restore(noisy.state(), 1)
    assert restored.play().user_epsilon == noisy.play().user_epsilon
    assert torch.equal(restored.parameters, noisy.parameters)


def test_epsilon_is_the_same_whoever_drops_out(build: Callable[..., Any]) -> None:  # noqa: F811
    share = DistributedDp(3.0, 4, 0.1)
    some = RowSums(PairwiseMasks(64, 0.4), 3.0, dropouts=Dropouts(before_upload=(1,)))
    many = RowSums(PairwiseMasks(64, 0.4), 3.0, dropouts=Dropouts(before_upload=(1, 2)))
    expected = epsilon([Spending(3.0 * math.sqrt(2 / 4), 1.0, 1)], 4**-1.1).value
    for sums in (some, many):
        result = federation(build, [share], secure_aggregation=SecureAggregation(4, sums)).play()
        assert result.user_epsilon == pytest.approx(expected)


def test_a_single_attacker_is_no_part_of_the_noise(build: Callable[..., Any]) -> None:  # noqa: F811
    threat = Threat(frozenset({1}), SignFlip(scale=3.0))
    result = federation(
        build, [DistributedDp(3.0, 4, 0.1)], secure_aggregation=SecureAggregation(4), threat=threat
    ).play()
    assert result.user_epsilon == pytest.approx(epsilon([Spending(3.0 * math.sqrt(3 / 4), 1.0, 1)], 4**-1.1).value)


@pytest.mark.parametrize(
    "options",
    [
        {"noise_multiplier": -1.0, "clients": 2},
        {"noise_multiplier": 1.0, "clients": 0},
        {"noise_multiplier": 1.0, "clients": 2, "clip_norm": 0.0},
        {"noise_multiplier": 1.0, "clients": 2, "delta": 1.0},
        {"noise_multiplier": 1.0, "clients": 2, "accountant": "moments"},
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        DistributedDp(**options)
