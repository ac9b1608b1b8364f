"""Paired statistics of two runs against hand-computed values, and against other implementations."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_rel

from fedsec.metrics.metric import described
from fedsec.report.comparison.differences import differences_of, holm, paired_p_value
from fedsec.report.comparison.pairing import CellPair
from fedsec.report.comparison.wording import counts

FINITE = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


def pairs(
    setting: str, first: list[float | None], other: list[float | None], metric: str = "accuracy"
) -> list[CellPair]:
    def record(value: float | None) -> dict[str, Any]:
        return {"status": "failed" if value is None else "done", "metrics": {metric: value}}

    return [
        CellPair({"defense": setting}, str(seed), record(one), record(two))
        for seed, (one, two) in enumerate(zip(first, other, strict=True))
    ]


@given(st.lists(st.tuples(FINITE, FINITE), min_size=3, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_p_value_is_that_of_the_paired_t_test(values: list[tuple[float, float]]) -> None:
    paired = [other - first for first, other in values]
    if len({round(value, 6) for value in paired}) > 1:
        expected = ttest_rel([other for _, other in values], [first for first, _ in values]).pvalue
        assert paired_p_value(paired) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_without_spread_equal_differences_are_certain_and_none_is_none() -> None:
    assert paired_p_value([0.5, 0.5, 0.5]) == 0
    assert paired_p_value([0.0, 0.0, 0.0]) == 1


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04: times 4, 3, 2, 1, and none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
@settings(max_examples=30, deadline=None)
def test_holm_is_at_least_as_strict_as_controlling_false_discoveries(values: list[float]) -> None:
    discovered = false_discovery_control(values)
    assert all(one >= other - 1e-12 for one, other in zip(holm(values), discovered, strict=True))


def test_a_setting_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, s = 1, t = 2 sqrt(3); Student's quantile for two degrees of freedom is 4.3027.
    (one,) = differences_of(pairs("median", [0, 0, 1], [1, 2, 4], "loss"), described("loss")).settings
    assert (one.first, one.other, one.mean) == pytest.approx((1 / 3, 7 / 3, 2))
    assert one.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert one.p_value == pytest.approx(0.0741799, rel=1e-5)
    assert one.verdict == "not told apart"


@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [
        ("accuracy", 0.2, "better"),
        ("accuracy", -0.2, "worse"),
        ("loss", 0.2, "worse"),
        ("rejected_updates", 0.2, "higher"),
        ("accuracy", 0.0, "equal"),
    ],
)
def test_the_verdict_knows_which_direction_is_good(metric: str, shift: float, verdict: str) -> None:
    first = [0.1, 0.2, 0.4]
    other = [value + shift + (0.001 * place if shift else 0) for place, value in enumerate(first)]
    assert differences_of(pairs("median", first, other, metric), described(metric)).settings[0].verdict == verdict


def test_what_one_test_tells_apart_many_need_not() -> None:
    # s = 1.633, t = 3 / (s / 2) = 3.674: p = 0.0349 alone, ten times that among ten.
    shifted = pairs("a", [0, 0, 0, 0], [1, 3, 3, 5])
    alone = differences_of(shifted, described("accuracy"))
    assert alone.settings[0].p_value == pytest.approx(0.0349, abs=1e-4)
    assert alone.count("better") == 1
    noise = [pair for number in range(9) for pair in pairs(f"n{number}", [0, 0, 0, 0], [1, -1, 2, -2])]
    among = differences_of([*shifted, *noise], described("accuracy"))
    assert among.count("better") == 0
    assert among.settings[0].p_value == pytest.approx(10 * 0.0349, abs=1e-3)


def test_the_overall_mean_is_taken_seed_by_seed() -> None:
    both = [*pairs("a", [0, 0, 0], [1, 2, 3]), *pairs("b", [0, 0, 0], [3, 2, None])]
    compared = differences_of(both, described("accuracy"))
    # Seeds 0 and 1 have both settings, with mean difference 2 each.
    assert (compared.overall, compared.overall_half_width) == (2.0, None)
    assert [(one.seeds, one.all_seeds) for one in compared.settings] == [(3, 3), (2, 3)]
    assert compared.settings[1].verdict == "too few seeds"
    assert counts(compared).endswith(", 1 with too few seeds to tell")
    whole = differences_of(
        [*pairs("a", [0, 0, 0], [1, 2, 3]), *pairs("b", [0, 0, 0], [1, 2, 3])], described("accuracy")
    )
    assert whole.overall == 2
    assert whole.overall_half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_settings_without_a_pair_of_values_are_named() -> None:
    compared = differences_of([*pairs("a", [None], [1.0]), *pairs("b", [1.0], [2.0])], described("accuracy"))
    assert compared.missing == [{"defense": "a"}]
    assert len(compared.settings) == 1
