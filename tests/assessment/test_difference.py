"""Intervals of rates and of their differences, against published values and against simulation."""

import pytest
from scipy.stats import binom

from fedsec.assessment.difference import Estimate, difference, exact_interval, of_seeds


def test_clopper_pearson_has_its_closed_form_at_the_ends() -> None:
    none, every = exact_interval(0, 20), exact_interval(20, 20)
    assert none.low == 0.0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert every.low == pytest.approx(0.025 ** (1 / 20))
    assert every.high == 1.0
    half = exact_interval(5, 10)
    assert (half.low, half.high) == pytest.approx((0.18709, 0.81291), abs=1e-5)


@pytest.mark.parametrize(("one", "other"), [(0.8, 0.55), (0.95, 0.9), (1.0, 0.5)])
def test_the_interval_of_a_difference_covers(one: float, other: float) -> None:
    """Over all pairs of counts, each with its probability."""
    number, covered = 25, 0.0
    for first in range(number + 1):
        for second in range(number + 1):
            interval = difference(exact_interval(first, number), exact_interval(second, number))
            if interval.low <= one - other <= interval.high:
                covered += float(binom.pmf(first, number, one) * binom.pmf(second, number, other))
    assert covered >= 0.95


def test_seeds_give_their_mean_and_their_outermost_ends() -> None:
    assert of_seeds([Estimate(0.2, 0.1, 0.3), Estimate(0.4, 0.35, 0.45)]) == Estimate(pytest.approx(0.3), 0.1, 0.45)


def test_points_have_no_negative_zero() -> None:
    assert Estimate(-0.0001, -0.02, 0.0).points() == "0.0 [-2.0..0.0]"
