"""What cells have in common is told once, and of each variant only what is its own."""

from typing import Any

from fedsec.report.page.resolved import common, variants


def record(rounds: int, defense: str, trim: float) -> dict[str, Any]:
    config = {
        "federation": {"rounds": rounds, "algorithm": "fedavg"},
        "defense": {"name": defense, "options": {"trim": trim, "robust": True}},
    }
    return {"cell": {"defense": defense, "federation.rounds": rounds}, "config": config}


def test_what_is_common_and_what_differs() -> None:
    records = [record(2, "mean", 0.1), record(2, "median", 0.2), record(5, "median", 0.2)]
    assert common(records) == {"federation": {"algorithm": "fedavg"}, "defense": {"options": {"robust": True}}}
    assert variants(records) == [
        ("federation", "{rounds: 2}", "federation.rounds=2", 2),
        ("federation", "{rounds: 5}", "federation.rounds=5", 1),
        ("defense", "{name: mean, options: {trim: 0.1}}", "mean", 1),
        ("defense", "{name: median, options: {trim: 0.2}}", "median", 2),
    ]
    assert variants(records[1:2]) == []
