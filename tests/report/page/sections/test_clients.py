"""The section on client verdicts: numbers are the records', the picture is of the worst attack."""

from collections.abc import Callable
from typing import Any

from fedsec.report.page import DataTable, Drawing, Folded, Page, PageSection, RunView, render
from fedsec.report.page.sections.clients import clients

ROUNDS = [
    {
        "round": number,
        "clients": [0, 1, 2, 3],
        "byzantine_in_round": [3],
        "suspected": [0],
        "influence": [0, 0.3, 0.3, 0.4],
    }
    for number in (1, 2)
]
LOW = {"detection_recall": 0.0, "detection_precision": 0.0, "honest_excluded": 1 / 3, "byzantine_influence": 0.4}
HIGH = {"detection_recall": 1.0, "detection_precision": 0.5, "honest_excluded": 0.1, "byzantine_influence": 0.0}
EXCLUSIONS = [{"client": number, "honest_rounds": 2, "excluded": times} for number, times in ((1, 0), (2, 1), (0, 2))]


def parts(section: PageSection | None, kind: type) -> list[Any]:
    assert section is not None
    return [part for part in section.parts if isinstance(part, kind)]


def test_the_worst_attack_of_each_defense_is_drawn_and_told_in_numbers(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cell("none", "krum", accuracy=0.9)
    cell("ipm", "krum", accuracy=0.7, rounds=[{**line, "suspected": [3]} for line in ROUNDS], **HIGH)
    cell("alie", "krum", accuracy=0.2, rounds=ROUNDS, record={"exclusions": EXCLUSIONS}, **LOW)
    cell("alie", "mean", accuracy=0.1, rounds=[{**line, "suspected": None} for line in ROUNDS], byzantine_influence=0.4)
    section = clients(view())
    (drawing,) = parts(section, Drawing)
    assert "krum: 0 of 2 Byzantine updates left out, and 2 honest ones" in drawing.description
    assert "mean: the rule does not say whom it leaves out" in drawing.description
    table, wronged = parts(section, DataTable)
    texts = [[shown.text for shown in row] for row in table.rows]
    assert texts == [
        ["krum", "alie", "0.0", "0.0", "33.3", "40.0", "20.0"],
        ["mean", "alie", "n/a", "n/a", "n/a", "40.0", "10.0"],
    ]
    assert [[shown.text for shown in row] for row in wronged.rows] == [
        ["alie, krum, seed=0", "0", "100.0", "10", "cat 80%, <b>dog 20%"],
        ["alie, krum, seed=0", "2", "50.0", "4", "<b>dog 100%"],
    ]
    (folded,) = parts(section, Folded)
    (others,) = folded.parts
    assert isinstance(others, DataTable)
    assert [shown.text for shown in others.rows[0]] == ["krum", "ipm", "100.0", "50.0", "10.0", "0.0", "70.0"]
    assert section is not None
    assert "<b>dog" not in render(Page("t", "", [section]))


def test_there_is_none_where_nobody_attacks(cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]) -> None:
    cell("none", "mean", accuracy=0.9, rounds=[{**ROUNDS[0], "byzantine_in_round": []}])
    assert clients(view()) is None


def test_what_no_rule_judges_is_no_matter_of_trust(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cut = {"config": {"federation": {"algorithm": "split_learning"}}}
    cell("none", "none", accuracy=0.9, **cut)
    cell("door", "none", accuracy=0.2, rounds=[{**line, "suspected": None} for line in ROUNDS], **cut)
    assert clients(view()) is None


def test_measures_that_no_rule_has_are_left_out(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cell("none", "mean", accuracy=0.9)
    cell("ipm", "mean", accuracy=0.1, rounds=[{**line, "suspected": None} for line in ROUNDS], byzantine_influence=0.4)
    (table,) = parts(clients(view()), DataTable)
    titles = [column.title for column in table.columns]
    assert titles == ["defense", "attack", "Byzantine influence (%)", "accuracy (%)"]
