"""Trials of a defense: the same as the server's own aggregation, from inner products as from whole rows, unnoticed."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Aggregator, AggregatorTrial, CallableTrial, Cohort, Gram, GramRule
from fedsec.defenses import NNM, Bucketing, ClipUpdate, Mean, Median, MultiKrum, Pipeline, TrimmedMean
from fedsec.errors import InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=seeded(seed), dtype=torch.float64)


class Carried(GramRule):
    """Half of the mean of the rows within its reach, and half of its own last result."""

    normalized: ClassVar[bool] = False
    center: Tensor | None = None

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def references(self, cohort: Cohort) -> Tensor | None:
        center = torch.zeros_like(cohort.updates[0]) if self.center is None else self.center
        return center[None]

    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        near = (gram.squared_distances(references=True)[:-1, -1] <= 1000.0).double()
        return torch.cat([near / near.sum().clamp_min(1) / 2, torch.tensor([0.5], dtype=torch.float64)])

    def remember(self, cohort: Cohort, vector: Tensor) -> None:
        self.center = vector.clone()

    def state(self) -> dict[str, Tensor]:
        return {} if self.center is None else {"center": self.center}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.center = state.get("center")


class Weighted(GramRule):
    """Clients weigh what they say, but the farthest row nothing: a Gram rule that uses weights."""

    uses_weights = True

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        weights = torch.tensor(cohort.weights, dtype=torch.float64)
        weights[gram.squared_distances().sum(1).argmax()] = 0
        return weights


RULES: list[Callable[[], Aggregator]] = [
    lambda: Mean(),
    lambda: Median(),
    lambda: TrimmedMean(num_trimmed_per_side=2),
    lambda: MultiKrum(2),
    lambda: MultiKrum(2, num_selected=1),
    lambda: Carried(),
    lambda: Weighted(),
    lambda: Pipeline([NNM(2), MultiKrum(2)]),
    lambda: Pipeline([NNM(2), Median()]),
    lambda: Pipeline([NNM(2), NNM(1), Weighted()]),
    lambda: Pipeline([NNM(2), Carried()]),
    lambda: Pipeline([NNM(2), Mean()]),
    lambda: Pipeline([Bucketing(2), Median()]),
    lambda: Pipeline([ClipUpdate(3.0), Median()]),
]


@pytest.mark.parametrize("make", RULES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.01, 1.0, 30.0]))
def test_mixtures_do_what_the_rows_do(make: Callable[[], Aggregator], seed: int, size: float) -> None:
    """Slow oracle: the server's own call on the rows, in the server's order, at its state, and plain norms."""
    rule, points = make(), normal(9, 40, seed)
    if not rule.draws:
        rule(normal(9, 40, seed + 1))  # a state to begin with
    places = torch.randperm(9, generator=seeded(seed)).tolist()
    weights = torch.arange(1.0, 10.0)
    trial = AggregatorTrial(rule, seeded(1), places=places, weights=weights)
    mixing = torch.eye(9, dtype=torch.float64)
    mixing[6:] = torch.randn(3, 9, generator=seeded(seed + 2), dtype=torch.float64) * size
    center = torch.cat([torch.full((6,), 1 / 6), torch.zeros(3)]).double()
    rows, mean = mixing @ points, center @ points
    results = []
    for draw in range(2):
        received = torch.empty_like(rows)
        received[places] = rows
        before = {name: tensor.clone() for name, tensor in rule.state().items()}
        counted = weights if rule.uses_weights else None
        results.append(rule(received, counted, generator=trial.drawn(draw)))
        rule.restore(before)
        shaken = rule(received + 1e-9 * normal(9, 40, seed + 3), counted, generator=trial.drawn(draw))
        rule.restore(before)
        assume(float((shaken - results[-1]).norm()) < 1e-6)  # ties, as of rows that NNM made equal, rounding decides
    lengths = [float((result - mean).norm()) for result in results]
    assert torch.equal(trial(rows), results[0])
    assert trial.damage(rows, mean) == pytest.approx(sum(lengths) / 2, rel=1e-12)
    mixtures = trial.mixtures(points, 9)
    assert mixtures.exact
    assert mixtures.damage(mixing, center) == pytest.approx(sum(lengths) / 2, rel=1e-6, abs=1e-9)
    behind = [float((mean - result) @ mean / mean.norm()) for result in results]
    for damage in (trial.damage(rows, mean, "opposition"), mixtures.damage(mixing, center, "opposition")):
        assert damage == pytest.approx(sum(behind) / 2, rel=1e-6, abs=1e-7)
    ends = torch.cdist(torch.cat([rows, rows.new_zeros(1, 40)]), torch.cat([rows, rows.new_zeros(1, 40)])).square()
    torch.testing.assert_close(mixtures.squared_distances(mixing), ends, rtol=1e-6, atol=1e-8)
    coefficients = mixtures.coefficients(mixing)
    last = rule.rule if isinstance(rule, Pipeline) else rule
    assert (coefficients is not None) == isinstance(last, GramRule)
    if coefficients is not None:
        further = [last.center[None]] if isinstance(last, Carried) and last.center is not None else []
        torch.testing.assert_close(coefficients @ torch.cat([points, *further]), results[0], rtol=1e-6, atol=1e-8)


def test_a_trial_leaves_no_trace_and_starts_where_the_server_stands() -> None:
    rule, rows = Carried(), normal(5, 30)
    rule(normal(5, 30, 1))
    state = rule.state()["center"].clone()
    trial = AggregatorTrial(rule, seeded(0))
    first, again = trial(rows), trial(rows)
    assert torch.equal(first, again)
    trial.mixtures(rows, 5).damage(torch.eye(5, dtype=torch.float64), torch.full((5,), 0.2, dtype=torch.float64))
    assert torch.equal(rule.state()["center"], state)
    assert torch.equal(rule(rows), first)


def test_rows_tried_between_mixtures_leave_the_rule_where_the_server_stands() -> None:
    """Seen of FoolsGold under `auto`: the mixtures saw a memory of the round that an attack had only tried."""
    rule, points = Carried(), normal(5, 30)
    mixing, mean = torch.eye(5, dtype=torch.float64), torch.full((5,), 0.2, dtype=torch.float64)
    for _ in range(2):  # in the first round there is nothing to remember
        trial = AggregatorTrial(rule, seeded(0))
        mixtures = trial.mixtures(points, 5)
        trial(normal(5, 30, 2))
        assert mixtures.damage(mixing, mean) == pytest.approx(trial.damage(points, mean @ points))
        rule(points)


def test_what_a_defense_draws_comes_from_the_attackers_stream() -> None:
    rule, rows = Pipeline([Bucketing(2), Median()]), normal(8, 10)
    first, same, other = (AggregatorTrial(rule, seeded(seed))(rows) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    trial = AggregatorTrial(rule, seeded(0))
    assert torch.equal(trial(rows), trial(rows))


def test_fewer_rows_than_clients_are_a_smaller_round() -> None:
    trial = AggregatorTrial(Mean(), seeded(0), places=[2, 0, 1], weights=torch.tensor([5.0, 1.0, 1.0]))
    rows = torch.tensor([[3.0], [6.0], [9.0]])
    assert trial(rows).item() == pytest.approx((5 * 6 + 9 + 3) / 7)
    assert trial(rows[:2]).item() == pytest.approx(4.5)


@pytest.mark.parametrize("rule", [MultiKrum(3), Pipeline([NNM(3), MultiKrum(3)]), TrimmedMean(num_trimmed_per_side=3)])
def test_rows_that_were_lost_count_as_byzantine(rule: Aggregator) -> None:
    """Eight rows alone are too few for three Byzantine ones; of ten, two of which are lost, they are enough."""
    rows = normal(10, 6)
    rows[:2] = torch.nan
    expected = rule(rows)
    trial = AggregatorTrial(rule, seeded(0), places=range(10), weights=torch.ones(10))
    assert torch.allclose(trial(rows[2:]), expected, atol=1e-12)
    mean, eye = torch.full((8,), 1 / 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    damage = trial.mixtures(rows[2:], 8).damage(eye, mean)
    assert damage == pytest.approx(float((expected - rows[2:].mean(0)).norm()), rel=1e-9)
    with pytest.raises(InputError, match="6 finite rows of 10"):
        trial.mixtures(rows[4:], 6)


def test_rows_that_the_server_would_not_take_do_no_damage() -> None:
    rows = normal(5, 3)
    rows[0, 0] = torch.nan
    assert AggregatorTrial(TrimmedMean(0.0), seeded(0)).damage(rows, rows[1]) == -torch.inf
    with pytest.raises(InputError, match="at least 7 rows"):
        AggregatorTrial(MultiKrum(2), seeded(0)).mixtures(rows[1:], 4)


def test_a_sample_of_the_coordinates_stands_for_all_of_a_large_model() -> None:
    points = torch.randn(7, 60_000, generator=seeded(0))
    for rule in (Median(), Pipeline([NNM(1), Median()])):
        trial = AggregatorTrial(rule, seeded(1))
        mixtures = trial.mixtures(points, 7)
        mixing = torch.eye(7, dtype=torch.float64)
        mixing[6] = -2.0
        center = torch.full((7,), 1 / 7, dtype=torch.float64)
        rows, mean = (part.float() @ points for part in (mixing, center))
        assert not mixtures.exact
        assert mixtures.fast
        assert mixtures.damage(mixing, center) == pytest.approx(trial.damage(rows, mean), rel=0.05)


def test_any_function_of_rows_can_be_tried() -> None:
    rows, mean = normal(4, 6), normal(4, 6).mean(0)
    trial = CallableTrial(lambda matrix: matrix.median(0).values)
    expected = float((rows.median(0).values - mean).norm())
    assert trial.damage(rows, mean) == pytest.approx(expected)
    mixtures = trial.mixtures(rows, 4)
    assert mixtures.damage(torch.eye(4), torch.full((4,), 0.25)) == pytest.approx(expected)
    assert mixtures.coefficients(torch.eye(4)) is None
    with pytest.raises(InputError, match="a vector of 6 numbers, not"):
        CallableTrial(lambda matrix: matrix)(rows)
    with pytest.raises(InputError, match="wrote into the rows"):
        CallableTrial(lambda matrix: matrix.mul_(2)[0])(rows.clone())
