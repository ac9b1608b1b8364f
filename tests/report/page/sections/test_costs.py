"""What a round costs is said once where it is the same everywhere, and by setting where not."""

from fedsec.report.page.parts import DataTable, Paragraph
from fedsec.report.page.sections.costs import costs
from tests.report.page.sections.conftest import AddCell, Look


def test_equal_costs_are_a_sentence_and_others_a_column(cell: AddCell, view: Look) -> None:
    shared = {"upload_bytes": 1200.0, "download_bytes": 1200.0}
    cell("none", "mean", edge_flops=2e6, **shared, record={"seconds": 2.0})
    cell("flip", "mean", edge_flops=3e6, **shared, record={"seconds": 4.0})
    section = costs(view())
    assert section is not None
    texts = [part.text for part in section.parts if isinstance(part, Paragraph)]
    assert texts[0] == "In a round a client sends 1.20 kB and receives 1.20 kB on average, in every setting."
    assert texts[1].startswith("The rounds of 2 cells took 6 seconds")
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [column.title for column in table.columns] == ["attack", "FLOPs", "seconds of a cell"]
    assert [[entry.text for entry in row] for row in table.rows] == [["none", "2.00 M", "2"], ["flip", "3.00 M", "4"]]


def test_a_run_without_numbers_has_no_costs(cell: AddCell, view: Look) -> None:
    cell("none", "mean", record={"status": "failed", "error": "it broke"})
    assert costs(view()) is None


def test_what_some_settings_lack_is_not_said_of_every_one(cell: AddCell, view: Look) -> None:
    cell("none", "mean", upload_bytes=1200.0)
    cell("none", "median")
    section = costs(view())
    assert section is not None
    (text, *_) = (part.text for part in section.parts if isinstance(part, Paragraph))
    assert text == "In a round a client sends 1.20 kB on average, in every setting that has such numbers."
