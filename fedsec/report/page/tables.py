"""What the tables at the end of a run hold, as tables of a page."""

from collections.abc import Sequence

from fedsec.report.accuracy_rows import BEST, WORST, DefenseOutcome, OutcomeTable
from fedsec.report.accuracy_table import worst_of_rows
from fedsec.report.metric_tables import MetricEntry, MetricTable
from fedsec.report.page.parts import DataTable, Folded, Part, TableCell, TableColumn
from fedsec.report.shortened import most_telling
from fedsec.report.summary import ATTACK

__all__ = ["comparison_parts", "cut", "metric_table_parts"]

MOST_ROWS = 40
"""A longer table shows its most telling rows, and all when asked for."""
_TONES = {BEST: "good", WORST: "bad"}


def comparison_parts(comparison: OutcomeTable, about: str = "") -> list[Part]:
    """Attacks by defenses.

    Args:
        comparison: of a run.
        about: what the table shows, before how to read it.
    """
    metric, defenses = comparison.metric, comparison.defenses
    # Of axes with one value a reader learns where the scenario is told; who attacks belongs beside the numbers.
    places = [
        place
        for place, axis in enumerate(comparison.row_axes)
        if axis == ATTACK or len({key[place] for key in comparison.rows}) > 1
    ]
    axes = [comparison.row_axes[place] for place in places]
    columns = [TableColumn(axis) for axis in axes] + [TableColumn(name, numeric=True) for name in defenses]
    rows = [
        [*(TableCell(key[place]) for place in places), *(_outcome_cell(row.get(name), comparison) for name in defenses)]
        for key, row in comparison.rows.items()
    ]
    caption = f"{about or metric.title}. {_sentences(comparison.legend)}".strip()
    return cut(DataTable(columns, rows, caption, len(axes)), most_telling(worst_of_rows(comparison), metric))


def metric_table_parts(table: MetricTable) -> list[Part]:
    """Several metrics of a run's settings."""
    columns = [TableColumn(axis) for axis in table.axes]
    columns += [TableColumn(column.title, numeric=True) for column in table.columns]
    rows = [
        [
            *(TableCell(group.axes.get(axis, "")) for axis in table.axes),
            *(_entry_cell(entries[place]) for entries in table.entries),
        ]
        for place, group in enumerate(table.groups)
    ]
    caption = _sentences(table.legend())
    return cut(DataTable(columns, rows, caption, len(table.axes)), most_telling(table.groups, table.metric))


def cut(table: DataTable, telling: Sequence[int]) -> list[Part]:
    """A table, or of a long one its most telling rows and the whole of it folded.

    Args:
        table: of all rows.
        telling: places of the rows, the most telling first.
    """
    count = len(table.rows)
    if count <= MOST_ROWS:
        return [table]
    rows = [table.rows[place] for place in sorted(telling[:MOST_ROWS])]
    short = DataTable(
        table.columns,
        rows,
        f"{table.caption} These are the {MOST_ROWS} most telling of {count:,} rows.",
        table.row_headers,
    )
    return [short, Folded(f"All {count:,} rows", [table])]


def _outcome_cell(outcome: DefenseOutcome | None, comparison: OutcomeTable) -> TableCell:
    if outcome is None:
        return TableCell("-")
    text = outcome.text(comparison.metric)
    remark = " ".join(filter(None, [text.interval, text.change, text.note]))
    return TableCell(text.mean, outcome.group.mean, _TONES.get(outcome.mark, "plain"), remark)


def _entry_cell(entry: MetricEntry) -> TableCell:
    remark = " ".join(filter(None, [entry.interval, entry.aside, entry.note]))
    return TableCell(entry.value, entry.mean, remark=remark)


def _sentences(parts: Sequence[str]) -> str:
    """Parts of a legend as sentences."""
    return " ".join(f"{part[:1].upper()}{part[1:].rstrip('.')}." for part in parts if part)
