"""The section on canaries has claims beside bounds, and says first where an audit contradicts a claim."""

from collections.abc import Callable
from typing import Any

from fedsec.report.metric_tables import metric_tables
from fedsec.report.page import DataTable, Drawing, Paragraph, RunView
from fedsec.report.page.sections.canaries import canaries
from fedsec.report.remarks import remarks


def audit(claim: float | None, lower: float, *, exceeds: bool = False) -> dict[str, Any]:
    bound = {"guesses": 4, "correct": 3, "epsilon_lower": lower}
    return {
        "unit": "example",
        "kind": "dirac",
        "count": 6,
        "included": [True, False, True, False, True, False],
        "scores": {"white_box": [1.0, 0.0, 2.0, -1.0, 3.0, 0.5], "loss": [0.0, None, 0.0, 0.0, 0.0, 0.0]},
        "bounds": {"white_box": {"approximate_dp": bound, "gaussian_dp": bound}},
        "epsilon_lower": lower,
        "epsilon_lower_gaussian": lower + 1,
        "ceiling": 4.0,
        "delta": 1e-5,
        "claim": None if claim is None else {"value": claim},
        "exceeds": exceeds,
        **({"notes": ["the audit contradicts the claim"]} if exceeds else {}),
    }


def add(cell: Callable[..., dict[str, Any]], defense: str, lower: float, **found: Any) -> dict[str, Any]:
    record = cell("none", defense, accuracy=0.9, epsilon_lower=lower, epsilon_lower_gaussian=lower + 1)
    record["audit"] = {"canaries": audit(lower=lower, **found)}
    return record


def test_claims_stand_beside_bounds_and_contradictions_come_first(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    records = [
        add(cell, "mean", 2.0, claim=None),
        add(cell, "dp_sgd", 0.5, claim=8.0),
        add(cell, "broken", 3.0, claim=1.0, exceeds=True),
    ]
    section = canaries(view())
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [[shown.text for shown in row[1:]] for row in table.rows] == [
        ["unbounded", "2", "3", "4", "3 of 4 right"],
        ["8", "0.5", "1.5", "4", "3 of 4 right"],
        ["1", "3", "4", "4", "3 of 4 right"],
    ]
    bad = [part.text for part in section.parts if isinstance(part, Paragraph) and part.tone == "bad"]
    assert bad == ["none, broken, seed=0: the audit contradicts the claim."]
    assert any(isinstance(part, Drawing) for part in section.parts)
    assert remarks(records)[0] == "WARNING: none, broken, seed=0: the audit contradicts the claim"
    (privacy,) = (table for table in metric_tables(records) if table.name == "privacy")
    titles = [column.title for column in privacy.columns]
    assert titles[1:] == ["audited (example)", "audited, Gaussian (example)"]
    assert privacy.title == "privacy: what was claimed, and what an audit shows"


def test_there_is_none_without_canaries(cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]) -> None:
    cell("none", "mean", accuracy=0.9)
    assert canaries(view()) is None
