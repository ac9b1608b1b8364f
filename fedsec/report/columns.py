"""The tables of several metrics beside each other: what a round costs clients, and what a curious server sees."""

import shutil
from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from fedsec.report.metric_tables import MetricEntry, MetricTable, metric_tables
from fedsec.report.shortened import most_telling, shortened
from fedsec.report.summary import Record
from fedsec.report.table_layout import Layout, Reading, headers


def tables(records: Sequence[Record], *, width: int | None = None, full: bool = False) -> list[Table]:
    """The tables that say something beside the accuracy, ready to print, see `metric_tables`.

    Args:
        records: the cells' records.
        width: the columns of the terminal; those of the current one by default.
        full: whether to show all rows of long tables, instead of the most telling ones.
    """
    width = shutil.get_terminal_size().columns if width is None else width
    return [_draw(table, width, full) for table in metric_tables(records)]


def _draw(table: MetricTable, width: int, full: bool) -> Table:
    keys = table.keys

    def layout(*, bare: bool, leading: int) -> Layout:
        readings = [
            _aligned([replace(entry, interval="") if bare else entry for entry in column]) for column in table.entries
        ]
        titles = (*headers(table.axes), *(column.title for column in table.columns))
        return Layout(titles, (*keys, *readings), leading)

    def fitting(*, bare: bool) -> Layout:
        plain = layout(bare=bare, leading=len(keys) - len(table.last))
        return plain if plain.narrowest <= width else layout(bare=bare, leading=len(keys)).stacked()

    chosen = fitting(bare=False)
    if narrow := table.intervals and chosen.narrowest > width:
        chosen = fitting(bare=True)
    telling = most_telling(table.groups, table.metric)
    chosen, others = shortened(chosen, telling, "results.csv", full=full)
    if not chosen.is_readable(width):
        chosen, others = shortened(layout(bare=narrow, leading=len(keys)), telling, "results.csv", full=full)
    legend = "; ".join([*table.legend(narrow=narrow), *others])
    return chosen.draw(table.title, Text(legend, style="dim"), width)


def _aligned(entries: Sequence[MetricEntry]) -> list[Reading]:
    """The cells of one column, padded so that they end below entry other."""
    value, interval, aside = (
        max((len(getattr(entry, part)) for entry in entries), default=0) for part in ("value", "interval", "aside")
    )
    return [
        Reading(
            f"{entry.value:>{value}}" + (f" {entry.interval:<{interval}}" if interval else ""),
            f"{entry.aside:>{aside}}",
            entry.note,
        )
        for entry in entries
    ]
