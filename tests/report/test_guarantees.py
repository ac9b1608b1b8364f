"""What reports say of defenses that are called private."""

from typing import Any

import pytest

from fedsec.report.remarks import remarks


def record(*defenses: str) -> dict[str, Any]:
    config = {"attack": {"name": "none"}, "defense": [{"name": name, "options": {}} for name in defenses]}
    return {"id": "a", "cell": {}, "status": "done", "metrics": {}, "error": None, "seconds": 1.0, "config": config}


@pytest.mark.parametrize("defenses", [("mean",), ("clip", "median"), ("dp_sgd",), ("no_longer_installed",)])
def test_nothing_is_said_of_those_that_are_not_called_so_or_are_counted(defenses: tuple[str, ...]) -> None:
    assert remarks([record(*defenses)]) == []


def test_a_filter_that_is_called_private_and_is_not_is_named_once() -> None:
    (note,) = remarks([record("percentile_privacy"), record("percentile_privacy", "median")])
    assert note.startswith("note: percentile_privacy is called private and guarantees nothing (no noise is added")
    assert note.endswith("docs/deployed_filters.md")


def test_what_a_round_costs_is_not_taken_for_what_the_run_costs() -> None:
    (note,) = remarks([record("local_dp")])
    assert "local_dp guarantees epsilon, delta of one client's update in one round" in note
    assert "no column counts it" in note
