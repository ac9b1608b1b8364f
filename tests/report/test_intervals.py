"""What seeds span, and what they tell apart."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedsec.report.intervals import differences, direction, half_width, interval, spans

FRACTIONS = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(FRACTIONS)
@settings(deadline=None)
def test_ends_are_values_that_occurred(values: list[float]) -> None:
    low, high = interval(np.array(values))
    assert float(low) in values
    assert float(high) in values
    assert low <= np.median(values) <= high


@pytest.mark.parametrize("number", range(1, 31))
def test_the_median_is_covered_as_promised_and_not_more_than_needed(number: int) -> None:
    low, high = interval(np.arange(1.0, number + 1))
    assert low + high == number + 1

    def coverage(outside: int) -> float:
        return float(1 - 2 * stats.binom.cdf(outside, number, 0.5))

    outside = int(low) - 1
    assert outside == 0 or coverage(outside) >= 0.95
    assert coverage(outside + 1) < 0.95
    assert ("95%" in spans(number)) == (coverage(outside) >= 0.95)


def test_few_seeds_show_the_smallest_and_the_largest() -> None:
    assert interval(np.array([0.9, 0.661, 0.4])) == (0.4, 0.9)
    assert interval(np.arange(6.0)) == (0, 5)
    assert interval(np.arange(9.0)) == (1, 7)


def test_intervals_of_many_columns_at_once() -> None:
    low, high = interval(np.array([[1.0, 5.0], [3.0, 2.0]]))
    assert (low.tolist(), high.tolist()) == ([1, 2], [3, 5])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
@settings(deadline=None, max_examples=30)
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    spread = math.sqrt(sum((value - sum(values) / len(values)) ** 2 for value in values) / (len(values) - 1))
    expected = stats.t.ppf(0.975, len(values) - 1) * spread / math.sqrt(len(values))
    assert half_width(values) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_interval_of_three_has_the_tabulated_quantile() -> None:
    assert half_width([0.0, 1.0, 2.0]) == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0.96, 0.95, 0.97], [0.10, 0.12, 0.08], 1),
        ([0.10, 0.12, 0.08], [0.96, 0.95, 0.97], -1),
        ([0.976, 0.970, 0.981], [0.975, 0.971, 0.979], 0),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], 1),  # the seeds differ alike
        ([0.5, 0.6], [0.4, 0.5], 0),  # two that differ alike may do so by chance
        ([0.5, 0.6], [0.5, 0.6], 0),
        ([0.9], [0.1], 0),  # a single seed tells nothing
        ([], [0.1, 0.2], 0),
    ],
)
def test_direction_is_told_on_equal_seeds(one: list[float], other: list[float], expected: int) -> None:
    named = [{str(seed): value for seed, value in enumerate(values)} for values in (one, other)]
    assert direction(*named) == expected


@pytest.mark.parametrize(("number", "seeds"), [(2, 3), (5, 5), (10, 3), (10, 5)])
def test_equal_settings_have_a_best_one_in_a_twentieth_of_all_rows_at_most(number: int, seeds: int) -> None:
    rng, rows, told = np.random.default_rng(0), 400, 0
    for _ in range(rows):
        values = sorted(rng.normal(size=(number, seeds)), key=lambda row: float(row.mean()))
        worst, best = ({str(seed): float(value) for seed, value in enumerate(values[end])} for end in (0, -1))
        told += direction(best, worst, settings=number) != 0
    assert told <= stats.binom.ppf(0.999, rows, 0.05)


def test_seeds_are_paired_whatever_their_order() -> None:
    one, other = {"0": 0.2, "1": 0.8, "2": 0.5}, {"2": 0.4, "1": 0.7, "0": 0.1, "3": 0.0}
    assert differences(one, other) == pytest.approx([0.1, 0.1, 0.1])
    assert direction(one, other) == 1


def test_what_intervals_are_called_changes_once() -> None:
    texts = [spans(number) for number in range(2, 40)]
    assert sum(one != other for one, other in pairwise(texts)) == 1
    assert texts[3] != texts[4]  # five seeds and six
