"""Versions are said once, and where cells differ with how many have what."""

from fedsec.report.page.parts import DataTable
from fedsec.report.page.sections.environment import environment
from tests.report.page.sections.conftest import AddCell, Look


def test_cells_that_differ_are_counted(cell: AddCell, view: Look) -> None:
    for seed, torch in enumerate(["2.1", "2.1", "2.2"]):
        cell("none", "mean", seed, record={"environment": {"fedsec": "1", "torch": torch}, "parameters": 1234})
    section = environment(view())
    assert section is not None
    (table,) = section.parts
    assert isinstance(table, DataTable)
    assert {row[0].text: row[1].text for row in table.rows} == {
        "fedsec": "1",
        "torch": "2.1 (2 of 3 cells); 2.2 (1 of 3 cells)",
        "parameters of the model": "1,234",
    }


def test_records_of_another_kind_have_no_environment(cell: AddCell, view: Look) -> None:
    cell("none", "mean")
    assert environment(view()) is None
