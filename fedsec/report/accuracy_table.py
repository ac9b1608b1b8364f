"""The table at the end of a run: rows attacks, columns defenses, means over seeds with their intervals."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from fedsec.metrics.metric import Metric
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, Summary, summarize
from fedsec.report.table_layout import Layout, Reading, headers

_BEST, _WORST = "*", "!"
_STYLES = {_BEST: "bold green", _WORST: "red", "": ""}
_Key = tuple[str, ...]


@dataclass(frozen=True)
class _Cell:
    group: Group
    baseline: Group | None
    mark: str


def table(records: Sequence[Record], metric: str | None = None, *, width: int | None = None) -> Table:
    """The summary of a run, ready to print.

    Rows are attacks (the one without an attack first, as the baseline), columns are defenses; any further axis becomes
    a row key to the left. Each cell shows the mean over seeds, half the width of its 95% interval, and under attack the
    change against the baseline of the same defense. Where the columns do not fit the width, each defense gets a row.

    Args:
        records: the cells' records, in file order.
        metric: a scalar entry of the records' `metrics`, by default what the models are trained for; fractions
            appear as percentages.
        width: the columns of the terminal; those of the current one by default.

    Returns:
        A rich table with its legend as the caption.
    """
    summary = summarize(records, metric)
    if width is None:
        width = shutil.get_terminal_size().columns
    wide = _wide(summary)
    fits = wide.narrowest <= width or DEFENSE not in summary.axes
    return (wide if fits else _long(summary)).draw(summary.row.title, _legend(summary), width)


def _wide(summary: Summary) -> Layout:
    """A row for each attack, a column for each defense."""
    rows = _rows(summary)
    defenses = list(dict.fromkeys(name for row in rows.values() for name in row))
    readings = [_readings(summary.row, [row.get(name) for row in rows.values()]) for name in defenses]
    keys = _keys(summary)
    return Layout((*headers(keys), *defenses), (*_transposed(rows, len(keys)), *readings), len(keys))


def _long(summary: Summary) -> Layout:
    """A row for each attack and defense."""
    cells = {(*key, name): cell for key, row in _rows(summary).items() for name, cell in row.items()}
    keys = [*_keys(summary), DEFENSE]
    readings = _readings(summary.row, list(cells.values()))
    return Layout((*headers(keys), summary.metric), (*_transposed(cells, len(keys)), readings), len(keys))


def _transposed(keys: Iterable[_Key], length: int) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)] if length else []


def _keys(summary: Summary) -> list[str]:
    return [*summary.further, *([ATTACK] if ATTACK in summary.axes else [])]


def _rows(summary: Summary) -> dict[_Key, dict[str, _Cell]]:
    """Row key -> defense -> cell; settings in file order, and in each the row without an attack first."""
    found: dict[_Key, dict[str, Group]] = {}
    for group in summary.groups:
        key = tuple(group.axes.get(axis, "") for axis in _keys(summary))
        found.setdefault(key, {})[group.axes.get(DEFENSE, summary.metric)] = group
    settings = list(dict.fromkeys(key[: len(summary.further)] for key in found))

    def place(key: _Key) -> tuple[int, bool]:
        return settings.index(key[: len(summary.further)]), all(group.attacked for group in found[key].values())

    rows = {}
    for key in sorted(found, key=place):
        marks = _marks(found[key], summary.row)
        rows[key] = {
            name: _Cell(group, summary.baseline(group) if group.attacked else None, marks.get(name, ""))
            for name, group in found[key].items()
        }
    return rows


def _marks(row: dict[str, Group], metric: Metric) -> dict[str, str]:
    """Which defenses of a row are best and worst, as far as the printed digits tell them apart."""
    texts = {name: metric.write(group.mean) for name, group in row.items() if group.mean is not None}
    if metric.better == "neither" or len(set(texts.values())) < 2:
        return {}
    means = {name: mean for name in texts if (mean := row[name].mean) is not None}
    ends = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    best, worst = reversed(ends) if metric.better == "lower" else ends
    marks = {texts[best]: _BEST, texts[worst]: _WORST}
    return {name: marks[text] for name, text in texts.items() if text in marks}


def _readings(metric: Metric, cells: Sequence[_Cell | None]) -> list[Reading]:
    """The cells of one column, padded so that their decimal points line up."""
    parts = [_parts(metric, cell) for cell in cells]
    mean_width, interval_width, change_width = (max((len(part[i]) for part in parts), default=0) for i in range(3))
    readings = []
    for cell, (mean, interval, change, note) in zip(cells, parts, strict=True):
        value = f"{mean:>{mean_width}} {interval:<{interval_width}}" if interval_width else f"{mean:>{mean_width}}"
        readings.append(Reading(value, f"{change:>{change_width}}", note, _STYLES[cell.mark if cell else ""]))
    return readings


def _parts(metric: Metric, cell: _Cell | None) -> tuple[str, str, str, str]:
    if cell is None:
        return "-", "", "", ""
    group, baseline = cell.group, cell.baseline
    cells = len(group.records)
    pending = sum(record["status"] not in ("done", "failed") for record in group.records)
    counts = {"failed": group.failed, "pending": pending, "n/a": cells - group.failed - pending - group.n}
    absent = {word: count for word, count in counts.items() if count}
    if group.mean is None and len(absent) == 1:
        return next(iter(absent)), "", "", ""
    note = ", ".join(f"{count} of {cells} {word}" for word, count in absent.items())
    if group.mean is None:
        return "-", "", "", note
    interval = "" if group.half_width is None else f"±{metric.write(group.half_width)}"
    change = f"({metric.write(group.mean - baseline.mean, '+')})" if baseline and baseline.mean is not None else ""
    return f"{cell.mark}{metric.write(group.mean)}", interval, change, note


def _legend(summary: Summary) -> Text:
    counts = [group.n for group in summary.groups if group.n]
    least, most = min(counts, default=0), max(counts, default=0)
    parts = []
    if most > 1:
        seeds = f"{most}" if least == most else f"{least} to {most}"
        parts.append(f"mean over {seeds} seeds ± half width of the 95% t-interval")
    if any(group.attacked and summary.baseline(group) for group in summary.groups):
        unit = " in points" if summary.row.is_fraction else ""
        parts.append(f"in parentheses the change against no attack{unit}")
    if any(group.axes.get(DEFENSE) != summary.groups[0].axes.get(DEFENSE) for group in summary.groups):
        parts.append(f"{_BEST} best and {_WORST} worst of a row")
    return Text("; ".join(parts), style="dim")
