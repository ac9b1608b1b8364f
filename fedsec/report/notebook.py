"""How results show themselves in a notebook: their table and pictures as HTML, whatever their texts hold."""

import html
from collections.abc import Sequence
from pathlib import Path

from fedsec.errors import count_of
from fedsec.report.accuracy_rows import OutcomeTable, compare
from fedsec.report.page.parts import DataTable, Paragraph, Part, Photo, TableCell, TableColumn
from fedsec.report.page.render import fragment
from fedsec.report.run_report import trained_once
from fedsec.report.summary import DEFENSE, Record, describe

__all__ = ["inversion_html", "run_html", "text_html"]

_MOST_PICTURES = 4
_MOST_FAILURES = 5


def run_html(
    root: Path, records: Sequence[Record], unmet: Sequence[str], reason: str, pictures: Sequence[Path] = ()
) -> str:
    """A run: how it ended, attacks by defenses, and the pictures of its report.

    Args:
        root: the run's folder.
        records: the cells' records.
        unmet: expectations that were not met.
        reason: how it ended, in a few words.
        pictures: PNG files of its report.
    """
    done = sum(record["status"] == "done" for record in records)
    ended = ", ".join([f"{done} of {count_of(len(records), 'cell')} done", *([reason] if reason != "done" else [])])
    head = f"{root.name}: {ended}. Everything is in {root}"
    page = root / "report.html"
    parts: list[Part] = [Paragraph(f"{head}; the page to show is {page}." if page.is_file() else f"{head}.")]
    failed = [record for record in records if record["status"] == "failed"]
    parts += [Paragraph(f"failed: {describe(one['cell'])}: {one['error']}", "bad") for one in failed[:_MOST_FAILURES]]
    parts += [Paragraph(f"not met: {text}", "bad") for text in unmet]
    if done:
        parts.append(_table(compare(list(trained_once(records)))))
    parts += _photos(pictures)
    return fragment(parts)


def inversion_html(verdict: str, lines: Sequence[str], pictures: Sequence[Path]) -> str:
    """An inversion: what can be seen, and the picture of it.

    Args:
        verdict: in a sentence or two.
        lines: what else to say.
        pictures: PNG files.
    """
    return fragment([Paragraph(verdict, "good"), *map(Paragraph, lines), *_photos(pictures)])


def text_html(text: str, pictures: Sequence[Path] = ()) -> str:
    """Tables that are laid out as text, and pictures below them.

    Args:
        text: as a terminal would show it.
        pictures: PNG files.
    """
    return f"<pre>{html.escape(text)}</pre>{fragment(_photos(pictures))}"


def _table(comparison: OutcomeTable) -> DataTable:
    metric, axes = comparison.metric, comparison.row_axes
    by_defense = DEFENSE in comparison.summary.axes
    columns = [TableColumn(axis) for axis in axes]
    columns += [TableColumn(name if by_defense else metric.title, numeric=True) for name in comparison.defenses]
    rows = []
    for key, row in comparison.rows.items():
        cells = list(map(TableCell, key))
        for name in comparison.defenses:
            outcome = row.get(name)
            if outcome is None:
                cells.append(TableCell("-"))
                continue
            text = outcome.text(metric)
            words = " ".join(filter(None, [text.mean, text.interval, text.change]))
            cells.append(TableCell(words, outcome.group.mean, remark=text.note))
        rows.append(cells)
    caption = "; ".join([metric.title, *comparison.legend])
    return DataTable(columns, rows, caption, row_headers=len(axes))


def _photos(paths: Sequence[Path]) -> list[Part]:
    photos: list[Part] = [Photo(path.read_bytes(), path.stem, path.name) for path in paths[:_MOST_PICTURES]]
    if len(paths) > _MOST_PICTURES:
        photos.append(Paragraph(f"{count_of(len(paths) - _MOST_PICTURES, 'more picture')} beside these."))
    return photos
