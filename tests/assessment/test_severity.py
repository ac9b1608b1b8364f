"""Severity comes from one table of rules, and from what the data bear out at least."""

import pytest

from fedsec.assessment.difference import Estimate
from fedsec.assessment.severity import at_least, judged, rules
from fedsec.errors import InputError


@pytest.mark.parametrize("measure", rules().measures)
def test_every_threshold_is_where_its_level_begins(measure: str) -> None:
    thresholds = rules().measures[measure]["thresholds"]
    ordered = [level for level in rules().levels if level in thresholds]
    assert [thresholds[level] for level in ordered] == sorted(thresholds.values(), reverse=True)
    assert rules().measures[measure]["about"]
    for level in ordered:
        at = max(thresholds[level], 1e-9)
        assert judged(measure, Estimate(at + 0.1, at, 1.0))[0] == level
        below = judged(measure, Estimate(at, at - 1e-9, 1.0))[0]
        assert rules().levels.index(below) > rules().levels.index(level)


def test_the_lower_end_counts_and_not_the_estimate() -> None:
    assert judged("accuracy_loss", Estimate(0.9, 0.03, 1.0))[0] == "low"
    assert judged("accuracy_loss", Estimate(0.01, 0.001, 0.1))[0] == "info"
    level, why = judged("accuracy_loss", Estimate(0.9, -0.01, 1.0))
    assert level == "none"
    assert "-0.01" in why


def test_what_an_attacker_had_to_be_granted_takes_the_severity_down_but_never_away() -> None:
    level, why = judged("accuracy_loss", Estimate(0.8, 0.7, 0.9), ["sees_honest_updates"])
    assert level == "high"
    assert "same round" in why
    assert judged("accuracy_loss", Estimate(0.03, 0.021, 0.1), ["sees_honest_updates"] * 3)[0] == "info"
    assert judged("accuracy_loss", Estimate(0.03, 0.0, 0.1), ["sees_honest_updates"])[0] == "none"


def test_levels_are_compared_by_how_bad_they_are() -> None:
    assert at_least("critical", "high")
    assert at_least("high", "high")
    assert not at_least("medium", "high")
    with pytest.raises(InputError, match="fail_on: expected one of critical, high, medium, low, info, got 'bad'"):
        at_least("high", "bad")
