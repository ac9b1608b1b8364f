import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from fedsec.auditing import clopper_pearson, clustered_rate
from fedsec.errors import InputError


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (1, 1000), (999, 1000), (0, 1)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_intervals_are_those_of_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    rate = clopper_pearson(successes, trials, confidence)
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert rate.value == successes / trials


def test_one_sided_intervals_use_all_of_the_significance_on_one_side() -> None:
    for side, alternative in (("lower", "greater"), ("upper", "less")):
        expected = binomtest(7, 20, alternative=alternative).proportion_ci(0.95, method="exact")
        rate = clopper_pearson(7, 20, 0.95, side)  # type: ignore[arg-type]
        assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("true", [0.0005, 0.02, 0.3, 0.5])
def test_intervals_hold_every_true_rate_as_often_as_they_say(true: float) -> None:
    held = [clopper_pearson(k, 60, 0.9) for k in range(61)]
    assert sum(binom.pmf(rate.successes, 60, true) for rate in held if rate.low <= true <= rate.high) >= 0.9


def test_of_no_trials_nothing_is_known() -> None:
    rate = clopper_pearson(0, 0)
    assert math.isnan(rate.value)
    assert (rate.low, rate.high) == (0, 1)
    assert rate.as_dict()["value"] is None


def test_bad_numbers_are_refused() -> None:
    for arguments, message in (
        ((3, 2), "3 of 2"),
        ((-1, 2), "-1 of 2"),
        ((1, 2, 1.0), "confidence"),
        ((1, 2, 95), "0.95"),
    ):
        with pytest.raises(InputError, match=message):
            clopper_pearson(*arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="side must be"):
        clopper_pearson(1, 2, side="left")  # type: ignore[arg-type]


def test_repeated_trials_of_a_cluster_do_not_narrow_an_interval() -> None:
    one, ten = clustered_rate([1, 0, 1, 1], [1, 1, 1, 1]), clustered_rate([10, 0, 10, 10], [10, 10, 10, 10])
    independent = clopper_pearson(3, 4)
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high)) == (independent.low, independent.high)
    assert (ten.successes, ten.trials, ten.value) == (30, 40, 0.75)
    # One cluster that repeats itself weighs more, and counts for no more than one.
    evenly, mostly_one = clustered_rate([1, 1, 1, 0], [2, 2, 2, 2]), clustered_rate([50, 1, 1, 0], [100, 2, 2, 2])
    assert mostly_one.high - mostly_one.low > evenly.high - evenly.low


@pytest.mark.parametrize("spread", [0.2, 1.0, 50.0])
def test_intervals_of_clusters_hold_their_rate_where_trials_depend_on_each_other(spread: float) -> None:
    """Rates of clusters are drawn, from almost all or nothing to almost equal; those of all trials do not suffice."""
    draw, mean, clusters, trials = np.random.default_rng(0), 0.7, 10, 20
    rates = draw.beta(spread * mean, spread * (1 - mean), (400, clusters))
    hits = draw.binomial(trials, rates)
    held = [rate.low <= mean <= rate.high for rate in (clustered_rate(row, [trials] * clusters, 0.9) for row in hits)]
    assert np.mean(held) >= 0.9
    if spread <= 1:
        naive = [clopper_pearson(int(row.sum()), clusters * trials, 0.9) for row in hits]
        assert np.mean([rate.low <= mean <= rate.high for rate in naive]) < 0.6


def test_clusters_without_trials_are_left_out() -> None:
    assert clustered_rate([3, 0], [4, 0]) == clustered_rate([3], [4])
    assert math.isnan(clustered_rate([], []).value)
    assert (clustered_rate([2], [2]).low, clustered_rate([2], [2]).high) == (clopper_pearson(1, 1).low, 1.0)
    with pytest.raises(InputError, match="3 of 2"):
        clustered_rate([3], [2])
    with pytest.raises(InputError, match="same clusters, got 1 and 2"):
        clustered_rate([1], [2, 3])
    with pytest.raises(InputError, match="confidence"):
        clustered_rate([1], [2], 95)
