"""The answer's tables hold the records' numbers, and what its author expected beside what came out."""

from dataclasses import replace

from fedsec.report.page.parts import DataTable, Folded, Paragraph
from fedsec.report.page.run_summary import ExpectationVerdict
from fedsec.report.page.sections.answer import answer
from tests.report.page.sections.conftest import AddCell, Look


def fill(cell: AddCell) -> None:
    for seed, (calm, hurt) in enumerate([(0.96, 0.10), (0.95, 0.12), (0.97, 0.08)]):
        cell("none", "mean", seed, accuracy=calm, accuracy_min_last5=calm)
        cell("none", "median", seed, accuracy=0.95, accuracy_min_last5=0.9)
        cell("flip", "mean", seed, accuracy=hurt, accuracy_min_last5=0.0)
        cell("flip", "median", seed, accuracy=0.95, accuracy_min_last5=0.9)


def test_the_table_holds_means_intervals_changes_and_marks(cell: AddCell, view: Look) -> None:
    fill(cell)
    section = answer(view())
    assert section is not None
    table, last = [part for part in section.parts if isinstance(part, DataTable)]
    assert [column.title for column in table.columns] == ["attack", "mean", "median"]
    assert [row[0].text for row in table.rows] == ["none", "flip"]
    mean, median = table.rows[1][1:]
    assert (mean.text, mean.remark, mean.tone) == ("!10.0", "[8.0..12.0] (-86.0)", "bad")
    assert (median.text, median.tone) == ("*95.0", "good")
    assert mean.order is not None
    assert abs(float(mean.order) - 0.10) < 1e-12
    assert last.rows[1][1].text == "!0.0"
    assert last.caption.startswith("accuracy_min_last5 (%): the worst accuracy of the last 5 evaluated rounds.")


def test_a_long_table_shows_its_most_telling_rows_and_all_when_asked_for(cell: AddCell, view: Look) -> None:
    cell("none", "mean", accuracy=0.9)
    for number in range(50):
        cell(f"attack {number:02}", "mean", accuracy=0.9 - number / 100)
    section = answer(view())
    assert section is not None
    table = next(part for part in section.parts if isinstance(part, DataTable))
    assert "40 most telling of 51 rows" in table.caption
    names = [row[0].text for row in table.rows]
    assert len(names) == 40
    assert names == sorted(names)
    assert "attack 49" in names
    assert "attack 00" not in names
    folded = next(part for part in section.parts if isinstance(part, Folded))
    assert isinstance(folded.parts[0], DataTable)
    assert len(folded.parts[0].rows) == 51


def test_expectations_stand_beside_what_was_measured(cell: AddCell, view: Look) -> None:
    cell("none", "mean", accuracy=0.5)
    verdicts = [
        ExpectationVerdict("accuracy >= 0.4", 0.5, True),
        ExpectationVerdict("loss <= 1 (no value)", None, False),
    ]
    summary = replace(view().summary, expectations=verdicts, set_aside=["median: accuracy >= 0.9"])
    section = answer(replace(view(), summary=summary))
    assert section is not None
    *_, table = [part for part in section.parts if isinstance(part, DataTable)]
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["accuracy >= 0.4", "0.5", "met"],
        ["loss <= 1 (no value)", "-", "NOT MET"],
    ]
    texts = [part.text for part in section.parts if isinstance(part, Paragraph)]
    assert "1 of 2 statements came true" in texts[0]
    assert any("no such cell: median: accuracy >= 0.9" in text for text in texts)
