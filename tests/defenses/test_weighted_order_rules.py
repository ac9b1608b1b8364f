"""Weighted median and trimmed mean against exact arithmetic; what weight can do to a result and what it cannot."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Aggregator, Pipeline
from fedsec.defenses import Bucketing, Median, TrimmedMean
from fedsec.errors import AggregationError, InputError

QUICK = settings(deadline=None, max_examples=30)

cases = st.tuples(st.integers(1, 12), st.integers(0, 10_000), st.booleans())


def matrix(case: tuple[int, int, bool]) -> tuple[Tensor, list[int]]:
    """Rows and whole weights: a few different values so that ties and divisions by half abound, or any."""
    rows, seed, ties = case
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (rows, 12)) if ties else rng.standard_normal((rows, 12))
    weights = rng.integers(0, 4, rows) if ties else rng.integers(1, 1000, rows)
    weights[rng.integers(rows)] += 1  # not all of them zero
    return torch.from_numpy(values.astype(np.float64)), weights.tolist()


def quantile_parts(column: list[float], weights: list[int], low: Fraction, high: Fraction) -> list[Fraction]:
    """How much of the weight between two quantiles each row has; equal values share by weight."""
    total = sum(weights)
    parts, below = [Fraction(0)] * len(column), Fraction(0)
    for value in sorted(set(column)):
        rows = [row for row in range(len(column)) if column[row] == value and weights[row]]
        mass = Fraction(sum(weights[row] for row in rows), total)
        inside = max(Fraction(0), min(below + mass, high) - max(below, low))
        for row in rows:
            parts[row] = inside * Fraction(weights[row], total) / mass
        below += mass
    return parts


def median_by_hand(column: list[float], weights: list[int]) -> tuple[float, list[float]]:
    """The median and each row's part in it."""
    half = Fraction(sum(weights), 2)
    values = sorted({value for value, weight in zip(column, weights, strict=True) if weight})
    up_to = {value: sum(w for x, w in zip(column, weights, strict=True) if x <= value) for value in values}
    from_on = {value: sum(w for x, w in zip(column, weights, strict=True) if x >= value) for value in values}
    low = min(value for value in values if up_to[value] >= half)
    high = max(value for value in values if from_on[value] >= half)
    parts = [0.0] * len(column)
    for end in (low, high):
        rows = [row for row in range(len(column)) if column[row] == end]
        for row in rows:
            parts[row] += weights[row] / sum(weights[other] for other in rows) / 2
    return (low + high) / 2, parts


@QUICK
@given(cases)
def test_median_is_the_oracles(case: tuple[int, int, bool]) -> None:
    updates, weights = matrix(case)
    expected = [median_by_hand(column, weights) for column in updates.T.tolist()]
    aggregate = Median(weighted=True).aggregate(updates, weights)
    assert aggregate.vector.tolist() == [value for value, _ in expected]
    np.testing.assert_allclose(aggregate.influence.numpy(), np.mean([parts for _, parts in expected], 0), atol=1e-12)


@QUICK
@given(cases, st.fractions(0, Fraction(19, 40), max_denominator=40))
def test_trimmed_mean_is_the_oracles(case: tuple[int, int, bool], trim: Fraction) -> None:
    updates, weights = matrix(case)
    columns = [quantile_parts(column, weights, trim, 1 - trim) for column in updates.T.tolist()]
    parts = np.array([[float(part / (1 - 2 * trim)) for part in column] for column in columns])
    aggregate = TrimmedMean(float(trim), weighted=True).aggregate(updates, weights)
    # A part of less than a few millionths of the weight may be left out, see `fedsec.defense.ranks.by_weight`.
    np.testing.assert_allclose(aggregate.vector, (parts * updates.T.numpy()).sum(1), atol=3e-4, rtol=1e-6)
    np.testing.assert_allclose(aggregate.influence, parts.mean(0), atol=3e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weight_that_is_divided_exactly_is_so_in_narrow_numbers(dtype: torch.dtype) -> None:
    """Thresholds between sums of weights must not round to such a sum."""
    updates = torch.tensor([[0.0, 2], [1, 3], [2, -4], [7, 1]], dtype=torch.float64)
    for weights in ([2, 1, 1, 0], [4, 1, 2, 1], [1, 2, 3, 2], [3, 3, 3, 7], [1, 5, 6, 12], [5, 1, 1, 1]):
        columns = updates.T.tolist()
        medians = [median_by_hand(column, weights)[0] for column in columns]
        assert Median(weighted=True)(updates.to(dtype), weights).tolist() == medians
        for trim in (Fraction(0), Fraction(1, 16), Fraction(1, 8), Fraction(1, 4), Fraction(7, 16)):
            parts = [quantile_parts(column, weights, trim, 1 - trim) for column in columns]
            expected = [
                sum(part * Fraction(value) for part, value in zip(some, column, strict=True)) / (1 - 2 * trim)
                for some, column in zip(parts, columns, strict=True)
            ]
            aggregate = TrimmedMean(float(trim), weighted=True).aggregate(updates.to(dtype), weights)
            assert aggregate.vector.tolist() == pytest.approx([float(value) for value in expected], rel=2e-3, abs=1e-5)
            assert float(aggregate.influence.sum()) == pytest.approx(1)


def test_golden_values() -> None:
    updates = torch.tensor([[0.0], [1], [2], [10]])
    assert Median(weighted=True)(updates, [1, 1, 1, 4]).tolist() == [10]
    assert Median(weighted=True)(updates, [1, 1, 1, 3]).tolist() == [6]  # 3 of 6 up to 2, and 3 of 6 from 10 on
    assert Median(weighted=True)(updates, [5, 3, 1, 1]).tolist() == [0.5]
    assert Median(weighted=True).aggregate(updates, [5, 3, 1, 1]).influence.tolist() == [0.5, 0.5, 0, 0]
    # A quarter of 8 is cut at each end: the 2 of the first row, and 2 of the last row's 3.
    rule = TrimmedMean(0.25, weighted=True)
    assert rule(updates, [2, 1, 2, 3])[0] == pytest.approx((1 + 2 * 2 + 10) / 4)
    assert rule.aggregate(updates, [2, 1, 2, 3]).influence.tolist() == pytest.approx([0, 0.25, 0.5, 0.25])
    assert TrimmedMean(num_trimmed_per_side=1, weighted=True)(updates, [2, 1, 2, 3])[0] == pytest.approx(15 / 4)


@pytest.mark.parametrize("rows", [1, 2, 7, 10])
def test_equal_weights_are_none(rows: int) -> None:
    updates = torch.randn(rows, 50, generator=torch.Generator().manual_seed(0))
    for weights in (None, [0.1] * rows):
        assert torch.equal(Median(weighted=True)(updates, weights), Median()(updates))
        influence = Median(weighted=True).aggregate(updates, weights).influence
        assert torch.equal(influence, Median().aggregate(updates).influence)
        trim = (rows - 1) // 2
        by_weight = TrimmedMean(num_trimmed_per_side=trim, weighted=True)(updates, weights)
        assert torch.equal(by_weight, TrimmedMean(num_trimmed_per_side=trim)(updates))


@QUICK
@given(cases, st.integers(0, 11), st.data())
def test_a_client_split_in_two_changes_nothing(case: tuple[int, int, bool], row: int, data: st.DataObject) -> None:
    updates, weights = matrix(case)
    row %= len(updates)
    twice = torch.cat([updates, updates[row : row + 1]])
    divided = [float(weight) for weight in weights] + [weights[row] / 2]
    divided[row] /= 2
    assert torch.equal(Median(weighted=True)(twice, divided), Median(weighted=True)(updates, weights))
    rule = TrimmedMean(data.draw(st.sampled_from([0.1, 0.25, 0.4])), weighted=True)
    torch.testing.assert_close(rule(twice, divided), rule(updates, weights), rtol=1e-6, atol=1e-4)


@QUICK
@given(st.integers(2, 14), st.integers(0, 1000), st.sampled_from([1e30, -1e30, 3e38, -3e38]))
def test_breakdown_in_weight(rows: int, seed: int, huge: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    updates, weights = torch.randn(rows, 20, generator=generator), torch.rand(rows, generator=generator) + 0.05
    share = weights.cumsum(0) / weights.sum()
    for rule, most in ((Median(weighted=True), 0.499), (TrimmedMean(0.3, weighted=True), 0.3)):
        byzantine = int((share <= most).sum())  # so many first rows, perhaps most of them
        honest = updates[byzantine:]
        low, high = honest.amin(0), honest.amax(0)
        attacked = torch.cat([torch.full_like(updates[:byzantine], huge), honest])
        result = rule(attacked, weights)
        slack = 1e-5 * honest.abs().amax(0)
        assert ((result >= low - slack) & (result <= high + slack)).all()
    over = int((share < 0.5).sum()) + 1
    if float(share[over - 1]) > 0.5 + 1e-4:
        attacked = torch.cat([torch.full_like(updates[:over], huge), updates[over:]])
        assert Median(weighted=True)(attacked, weights).abs().min() > 1e29


def test_many_small_sites_do_not_outvote_a_large_one() -> None:
    updates = torch.cat([torch.zeros(2, 3), torch.full((9, 3), 1e6)])
    weights = [30.0, 25.0] + [5.0] * 9
    assert Median(weighted=True)(updates, weights).tolist() == [0, 0, 0]
    assert Median()(updates).tolist() == [1e6] * 3
    assert TrimmedMean(0.45, weighted=True)(updates, weights).tolist() == pytest.approx([0] * 3, abs=1e-3)


def test_a_site_with_few_data_moves_the_model_by_no_more_than_its_share() -> None:
    # One of six sites has 0.6% of the data; a mean that trusts it moves as far as it likes.
    updates = torch.randn(6, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = [0.25, 0.2, 0.2, 0.194, 0.15, 0.006]
    others = updates[:5]
    for size in (-1e9, 1e9):
        attacked = torch.cat([others, torch.full((1, 2000), size, dtype=torch.float64)])
        alone = Median(weighted=True)(others, weights[:5])
        assert torch.equal(Median(weighted=True)(attacked, weights), alone)  # no division comes as near to half
        rule = TrimmedMean(0.1, weighted=True)
        moved = rule(attacked, weights) - rule(others, weights[:5])
        spread = others.amax(0) - others.amin(0)
        assert (moved.abs() <= 0.006 / 0.8 * 2 * spread).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes(dtype: torch.dtype) -> None:
    updates = torch.randn(9, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = torch.arange(1.0, 10)
    for rule in (Median(weighted=True), TrimmedMean(0.2, weighted=True)):
        exact = rule(updates.double(), weights)
        torch.testing.assert_close(rule(updates, weights).double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_wide_rows_and_many_of_them() -> None:
    # More columns than are compared at a time, and more rows than a few: against sorting with weights.
    updates = torch.randn(31, 40_000, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(31, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, order = updates.sort(0)
    up_to = (weights / weights.sum())[order].cumsum(0)
    expected = values.gather(0, (up_to < 0.5).sum(0, keepdim=True))[0]
    clear = ((up_to - 0.5).abs() > 1e-5).all(0)  # where nothing is divided in half, but for a few millionths
    assert torch.equal(Median(weighted=True)(updates, weights)[clear], expected[clear])
    assert clear.float().mean() > 0.99
    kept = (up_to.clamp(0.3, 0.7) - torch.cat([torch.zeros(1, 40_000), up_to[:-1]]).clamp(0.3, 0.7)) / 0.4
    torch.testing.assert_close(
        TrimmedMean(0.3, weighted=True)(updates, weights), (kept * values).sum(0).float(), rtol=1e-4, atol=1e-5
    )


def test_mixed_rows_have_their_clients_weights() -> None:
    updates = torch.randn(6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([8.0, 1, 1, 1, 1, 1])
    pipeline = Pipeline([Bucketing(2), Median(weighted=True)])
    together = pipeline(updates, weights, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    mixed, masses = updates[order].view(3, 2, -1).mean(1), weights[order].view(3, 2).mean(1)
    torch.testing.assert_close(together, Median(weighted=True)(mixed, masses))


@pytest.mark.parametrize("rule", [Median(weighted=True), TrimmedMean(0.4, weighted=True)], ids=["median", "trimmed"])
def test_rejected_weight_is_byzantine(rule: Aggregator) -> None:
    updates = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    broken = updates.clone()
    broken[:3] = torch.nan
    weights = [0.1, 0.1, 0.1, 0.3, 0.4]
    assert rule.aggregate(broken, weights).rejected == (0, 1, 2)  # most of the rows, but little of the weight
    with pytest.raises(AggregationError, match=r"rows with 60.0% of the weight hold NaN or infinity"):
        rule(broken, [0.2, 0.2, 0.2, 0.2, 0.2])


def test_what_was_rejected_needs_no_trimming() -> None:
    updates = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    broken = torch.cat([updates, torch.full((1, 8), torch.inf, dtype=torch.float64)])
    actual = TrimmedMean(0.3, weighted=True)(broken, [0.3, 0.2, 0.1, 0.2, 0.2])
    torch.testing.assert_close(actual, TrimmedMean(0.1 / 0.8, weighted=True)(updates, [3, 2, 1, 2]))


def test_no_kernel_counts_by_weight() -> None:
    with pytest.raises(InputError, match="Median: there is no compiled kernel that counts by weight"):
        Median(compile=True, weighted=True)
    with pytest.raises(InputError, match="TrimmedMean: there is no compiled kernel that counts by weight"):
        TrimmedMean(0.1, compile=True, weighted=True)
