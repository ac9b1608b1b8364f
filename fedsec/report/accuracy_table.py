"""The table at the end of a run: rows attacks, columns defenses, means over seeds with their intervals."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from fedsec.metrics.metric import Metric
from fedsec.report.accuracy_rows import BEST, WORST, DefenseOutcome, OutcomeTable, OutcomeText, RowKey, compare
from fedsec.report.shortened import most_telling, shortened
from fedsec.report.summary import DEFENSE, Group, Record
from fedsec.report.table_layout import Layout, Reading, headers

_STYLES = {BEST: "bold green", WORST: "red", "": ""}


def table(
    records: Sequence[Record], metric: str | None = None, *, width: int | None = None, full: bool = False
) -> Table:
    """The summary of a run, ready to print.

    Rows are attacks (the one without an attack first, as the baseline), columns are defenses; any further axis becomes
    a row key to the left. Each cell shows the mean over seeds, what they span, and under attack the change against the
    baseline of the same defense on equal seeds. Where the columns do not fit the width, each defense gets a row.

    Args:
        records: the cells' records, in file order.
        metric: a scalar entry of the records' `metrics`, by default what the models are trained for; fractions
            appear as percentages.
        width: the columns of the terminal; those of the current one by default.
        full: whether to show all rows of a long table, instead of the most telling ones.

    Returns:
        A rich table with its legend as the caption.
    """
    comparison = compare(records, metric)
    if width is None:
        width = shutil.get_terminal_size().columns
    wide = _wide(comparison)
    fits = wide.narrowest <= width or DEFENSE not in comparison.summary.axes
    if fits:
        layout, groups = wide, worst_of_rows(comparison)
    else:
        layout, groups = _long(comparison), [outcome.group for outcome in comparison.outcomes]
    layout, others = shortened(layout, most_telling(groups, comparison.metric), "results.csv", full=full)
    legend = Text("; ".join([*comparison.legend, *others]), style="dim")
    return layout.draw(comparison.metric.title, legend, width)


def worst_of_rows(comparison: OutcomeTable) -> list[Group]:
    """Of each row the group that is worst off, which tells how telling the row is."""
    rows = ([outcome.group for outcome in row.values()] for row in comparison.rows.values())
    return [_worst_of(groups, comparison.metric) for groups in rows]


def _worst_of(groups: Sequence[Group], metric: Metric) -> Group:
    return groups[most_telling([replace(group, axes={}) for group in groups], metric)[0]]


def _wide(comparison: OutcomeTable) -> Layout:
    """A row for each attack, a column for each defense."""
    rows, defenses, axes = comparison.rows, comparison.defenses, comparison.row_axes
    readings = [_readings(comparison.metric, [row.get(name) for row in rows.values()]) for name in defenses]
    return Layout((*headers(axes), *defenses), (*_transposed(rows, len(axes)), *readings), len(axes))


def _long(comparison: OutcomeTable) -> Layout:
    """A row for each attack and defense."""
    outcomes = {(*key, name): outcome for key, row in comparison.rows.items() for name, outcome in row.items()}
    axes = [*comparison.row_axes, DEFENSE]
    readings = _readings(comparison.metric, list(outcomes.values()))
    titles = (*headers(axes), comparison.metric.name)
    return Layout(titles, (*_transposed(outcomes, len(axes)), readings), len(axes))


def _transposed(keys: Iterable[RowKey], length: int) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)] if length else []


def _readings(metric: Metric, outcomes: Sequence[DefenseOutcome | None]) -> list[Reading]:
    """The cells of one column, padded so that their decimal points line up."""
    texts = [OutcomeText("-") if outcome is None else outcome.text(metric) for outcome in outcomes]
    mean, interval, change = (
        max((len(getattr(text, part)) for text in texts), default=0) for part in ("mean", "interval", "change")
    )
    return [
        Reading(
            f"{text.mean:>{mean}}" + (f" {text.interval:<{interval}}" if interval else ""),
            f"{text.change:>{change}}",
            text.note,
            _STYLES[outcome.mark if outcome else ""],
        )
        for outcome, text in zip(outcomes, texts, strict=True)
    ]
