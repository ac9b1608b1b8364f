import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from fedsec.auditing import auc, clopper_pearson, membership_rates, roc, tpr_at_fpr
from fedsec.errors import InputError


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.lists(st.integers(0, 8), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_order_and_the_area_under_the_curve(inside: list[int], outside: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in inside for b in outside]
    area = auc(inside, outside)
    assert area.value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert 0 <= area.low <= area.value <= area.high <= 1
    curve = roc(inside, outside)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(area.value, abs=1e-12)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)


def test_delongs_variance_is_that_of_a_slow_sum() -> None:
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(1, 1, 40), generator.normal(0, 1, 30)
    psi = (inside[:, None] > outside).astype(float)
    variance = psi.mean(1).var(ddof=1) / 40 + psi.mean(0).var(ddof=1) / 30
    area = auc(inside, outside)
    width = norm.ppf(0.975) * math.sqrt(variance) / (psi.mean() * (1 - psi.mean()))
    expected = 1 / (1 + np.exp(-(math.log(psi.mean() / (1 - psi.mean())) + np.array([-width, width]))))
    assert (area.low, area.high) == pytest.approx(tuple(expected))
    assert area.value == pytest.approx(mannwhitneyu(inside, outside).statistic / 1200)


@pytest.mark.parametrize(("shift", "sizes"), [(0.0, (20, 20)), (0.0, (200, 50)), (1.0, (40, 40)), (2.5, (30, 60))])
def test_intervals_of_auc_hold_the_true_area_about_as_often_as_they_say(shift: float, sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    true = norm.cdf(shift / math.sqrt(2))
    intervals = [auc(generator.normal(shift, 1, sizes[0]), generator.normal(0, 1, sizes[1])) for _ in range(300)]
    assert np.mean([area.low <= true <= area.high for area in intervals]) >= 0.92


def test_a_perfect_separation_is_no_proof_of_an_area_of_1() -> None:
    few, many = auc([1.0, 2.0, 3.0], [0.0, 0.1, 0.2]), auc(np.ones(200), np.zeros(200))
    assert few.value == many.value == many.high == 1
    assert few.low < 0.6
    assert 0.97 < many.low < 0.995
    mirrored = auc(np.zeros(200), np.ones(200))
    assert (mirrored.low, mirrored.high) == pytest.approx((0, 1 - many.low))


def test_what_does_not_vary_says_nothing() -> None:
    for area in (auc([1.0] * 50, [1.0] * 50), auc([2.0], [1.0, 3.0, 0.0])):
        assert (area.low, area.high) == (0, 1)


def test_tpr_at_a_threshold_that_the_non_members_set() -> None:
    nonmembers = np.arange(1000.0)
    members = np.array([0.0, 989.0, 989.5, 990.0, 5000.0])
    rate = tpr_at_fpr(members, nonmembers, 0.01)
    assert rate.threshold == 989
    assert rate.fpr == clopper_pearson(10, 1000)
    assert rate.tpr == clopper_pearson(3, 5)
    assert rate.is_resolved
    assert tpr_at_fpr(members, nonmembers, 0.001).fpr.successes == 1
    assert tpr_at_fpr(members, np.arange(3000.0), 0.001).fpr.successes == 3


def test_an_fpr_that_so_few_non_members_cannot_count_is_unresolved_and_not_0() -> None:
    rate = tpr_at_fpr(np.ones(500), np.zeros(999), 0.001)
    assert not rate.is_resolved
    assert math.isnan(rate.tpr.value)
    assert (rate.tpr.low, rate.tpr.high) == (0, 1)
    assert "1,000 or more" in rate.note
    assert rate.as_dict()["tpr"]["value"] is rate.as_dict()["threshold"] is None
    assert tpr_at_fpr(np.ones(500), np.zeros(1000), 0.001).tpr.value == 1


def test_ties_never_raise_the_fpr() -> None:
    rate = tpr_at_fpr([1.0, 2.0], [0.0] * 90 + [1.0] * 10, 0.05)
    assert rate.fpr.successes == 0
    assert rate.tpr.successes == 1
    assert "tie" in rate.note


def test_non_members_against_non_members_are_chance() -> None:
    generator = np.random.default_rng(3)
    rates = membership_rates(generator.normal(size=2000), generator.normal(size=2000))
    assert rates.auc.low <= 0.5 <= rates.auc.high
    for wanted, rate in rates.tpr_at.items():
        assert rate.tpr.low <= wanted <= rate.tpr.high
    assert rates.as_dict()["tpr_at"].keys() == {"0.001", "0.01"}


def test_bad_scores_are_refused() -> None:
    with pytest.raises(InputError, match="non-member 1 is nan"):
        membership_rates([1.0], [0.0, math.nan])
    with pytest.raises(InputError, match="numbers, one a member"):
        auc(["high"], [1.0])
    with pytest.raises(InputError, match="one a member"):
        auc([], [1.0])
    with pytest.raises(InputError, match="FPR"):
        tpr_at_fpr([1.0], [0.0], 1.0)
