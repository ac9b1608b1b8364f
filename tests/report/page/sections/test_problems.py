"""Cells without numbers stand first where there are any, each with its reason."""

from dataclasses import replace

from fedsec.report.missing_values import rounds_outvoted
from fedsec.report.page.parts import DataTable, Folded, Paragraph
from fedsec.report.page.sections.problems import problems
from tests.report.page.sections.conftest import AddCell, Look


def test_each_cell_without_numbers_has_its_reason(cell: AddCell, view: Look) -> None:
    cell("none", "mean", accuracy=0.5)
    cell("flip", "mean", record={"status": "pending"})
    cell("flip", "krum", record={"status": "refused", "error": "too many"})
    cell("flip", "<b>", record={"status": "failed", "error": "ZeroDivisionError"})
    damaged = cell("none", "krum", accuracy=0.5)
    section = problems(replace(view(), damaged={damaged["id"]: "rounds.jsonl changed or is missing"}))
    assert section is not None
    table, folded = section.parts
    assert isinstance(table, DataTable)
    assert isinstance(folded, Folded)
    assert folded.summary == "Not finished: 1 cell"
    assert [[entry.text for entry in row[:2]] for row in table.rows] == [
        ["flip, <b>, seed=0", "failed"],
        ["none, krum, seed=0", "damaged"],
        ["flip, krum, seed=0", "refused"],
    ]
    assert [row[2].text for row in table.rows] == [
        "ZeroDivisionError",
        "rounds.jsonl changed or is missing; its numbers are those of results.json; "
        "run the scenario again to compute it anew",
        "too many",
    ]


def test_a_majority_of_attackers_is_said(cell: AddCell, view: Look) -> None:
    cell("flip", "mean", accuracy=0.5, rounds_with_byzantine_majority=2)
    section = problems(view())
    assert section is not None
    (note,) = section.parts
    assert isinstance(note, Paragraph)
    assert "flip, mean, seed=0 (2 rounds)" in note.text


def test_no_rule_is_outvoted_at_the_cut_of_a_network(cell: AddCell, view: Look) -> None:
    cell("flip", "mean", accuracy=0.5, rounds_with_byzantine_majority=2)
    (record,) = view().done
    assert rounds_outvoted(record) == 2
    assert rounds_outvoted({**record, "config": {"federation": {"algorithm": "split_learning"}}}) == 0


def test_a_run_in_order_has_no_such_section(cell: AddCell, view: Look) -> None:
    cell("none", "mean", accuracy=0.5, rounds_with_byzantine_majority=0)
    assert problems(view()) is None
