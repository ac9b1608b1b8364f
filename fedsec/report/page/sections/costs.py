"""What the run costs: clients on the wire and in computation, the server, attackers, and whoever ran it."""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from fedsec.errors import count_of
from fedsec.report.metric_tables import MetricColumn, MetricEntry, cost_table
from fedsec.report.page.parts import DataTable, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.tables import cut
from fedsec.report.shortened import most_telling
from fedsec.report.summary import Group

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["costs"]


def costs(view: "RunView") -> PageSection | None:
    """Bytes, operations and seconds."""
    if not view.done:
        return None
    table = cost_table(view.trained)
    columns = list(zip(table.columns, table.entries, strict=True))
    same = [pair for pair in columns if len({entry.value for entry in pair[1] if entry.mean is not None}) <= 1]
    parts: list[Part] = [Paragraph(text) for text in (_common(same), _time(view)) if text]
    varied = [pair for pair in columns if pair not in same]
    rows = [
        [
            *(TableCell(group.axes.get(axis, "")) for axis in table.axes),
            *(TableCell(entries[place].value, entries[place].mean) for _, entries in varied),
            _seconds(group),
        ]
        for place, group in enumerate(table.groups)
    ]
    titles = [*(column.title for column, _ in varied), "seconds of a cell"]
    heads = [TableColumn(axis) for axis in table.axes] + [TableColumn(title, numeric=True) for title in titles]
    if len(rows) > 1 or varied:
        whole = DataTable(heads, rows, _legend([column for column, _ in varied]), len(table.axes))
        slowest = sorted(range(len(rows)), key=lambda place: -_mean_seconds(table.groups[place]))
        parts += cut(whole, slowest if not varied else most_telling(table.groups, varied[0][0].metric))
    return PageSection("costs", "What it costs", parts)


def _legend(columns: Sequence[MetricColumn]) -> str:
    """What the columns of a table hold."""
    about = [f"{column.title}: {column.metric.about}" for column in columns]
    flops = ["a multiply-add counts two, forward and backward pass"]
    counted = flops if any(column.metric.scale == "operations" for column in columns) else []
    return "; ".join([*about, *counted, "seconds of a cell: of all its rounds, on average over seeds"]) + "."


def _common(columns: Sequence[tuple[MetricColumn, Sequence[MetricEntry]]]) -> str:
    """What a round costs in every setting alike."""
    words = {
        "upload_bytes": "sends {}",
        "download_bytes": "receives {}",
        "edge_flops": "computes {} floating-point operations",
    }
    said, everywhere = [], True
    for column, entries in columns:
        values = {entry.value for entry in entries if entry.mean is not None}
        if values and column.metric.name in words:
            said.append(words[column.metric.name].format(next(iter(values))))
            everywhere &= all(entry.mean is not None for entry in entries)
    if not said:
        return ""
    text = ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1]
    where = "in every setting" if everywhere else "in every setting that has such numbers"
    return f"In a round a client {text} on average, {where}."


def _time(view: "RunView") -> str:
    """How long all cells took, one after another."""
    seconds = sum(record["seconds"] for record in view.done)
    environments = [record.get("environment") or {} for record in view.done]
    threads = {int(environment["threads"]) for environment in environments if environment.get("threads")}
    on = f", on {count_of(next(iter(threads)), 'thread')} each" if len(threads) == 1 else ""
    return (
        f"The rounds of {count_of(len(view.done), 'cell')} took {_duration(seconds)}{on}, if they are counted one "
        "after another."
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _mean_seconds(group: Group) -> float:
    seconds = [record["seconds"] for record in group.records if record["status"] == "done"]
    return fmean(seconds) if seconds else 0.0


def _seconds(group: Group) -> TableCell:
    mean = _mean_seconds(group)
    return TableCell(f"{mean:.3g}", mean) if mean else TableCell("-")
