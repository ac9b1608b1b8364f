"""The table at the end of a run: rows attacks, columns defenses, means over seeds with their intervals."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rich.table import Table
from rich.text import Text

from fedsec.metrics.metric import Metric
from fedsec.report.intervals import differences, direction, spans
from fedsec.report.shortened import most_telling, shortened
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
    summary = summarize(records, metric)
    if width is None:
        width = shutil.get_terminal_size().columns
    rows = _rows(summary)
    marks = {cell.mark for row in rows.values() for cell in row.values()} - {""}
    wide = _wide(summary, rows)
    fits = wide.narrowest <= width or DEFENSE not in summary.axes
    if fits:
        layout, groups = wide, [_worst_of([cell.group for cell in row.values()], summary.row) for row in rows.values()]
    else:
        layout, groups = _long(summary, rows), [cell.group for row in rows.values() for cell in row.values()]
    layout, others = shortened(layout, most_telling(groups, summary.row), "results.csv", full=full)
    legend = Text("; ".join([*_legend(summary, marks), *others]), style="dim")
    return layout.draw(summary.row.title, legend, width)


def _worst_of(groups: Sequence[Group], metric: Metric) -> Group:
    """The group of a row that is worst off."""
    return groups[most_telling([replace(group, axes={}) for group in groups], metric)[0]]


def _wide(summary: Summary, rows: Mapping[_Key, Mapping[str, _Cell]]) -> Layout:
    """A row for each attack, a column for each defense."""
    defenses = list(dict.fromkeys(name for row in rows.values() for name in row))
    readings = [_readings(summary.row, [row.get(name) for row in rows.values()]) for name in defenses]
    keys = _keys(summary)
    return Layout((*headers(keys), *defenses), (*_transposed(rows, len(keys)), *readings), len(keys))


def _long(summary: Summary, rows: Mapping[_Key, Mapping[str, _Cell]]) -> Layout:
    """A row for each attack and defense."""
    cells = {(*key, name): cell for key, row in rows.items() for name, cell in row.items()}
    keys = [*_keys(summary), DEFENSE]
    readings = _readings(summary.row, list(cells.values()))
    return Layout((*headers(keys), summary.metric), (*_transposed(cells, len(keys)), readings), len(keys))


def _transposed(keys: Iterable[_Key], length: int) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)] if length else []


def _keys(summary: Summary) -> list[str]:
    return [*summary.further, *([ATTACK] if ATTACK in summary.axes else [])]


def _rows(summary: Summary) -> dict[_Key, dict[str, _Cell]]:
    """Row key -> defense -> cell; settings in file order, and in each the row without an attack first."""
    groups: dict[_Key, dict[str, Group]] = {}
    for group in summary.groups:
        key = tuple(group.axes.get(axis, "") for axis in _keys(summary))
        groups.setdefault(key, {})[group.axes.get(DEFENSE, summary.metric)] = group
    settings = list(dict.fromkeys(key[: len(summary.further)] for key in groups))

    def place(key: _Key) -> tuple[int, bool]:
        return settings.index(key[: len(summary.further)]), all(group.attacked for group in groups[key].values())

    rows = {}
    for key in sorted(groups, key=place):
        marks = _marks(groups[key], summary.row)
        rows[key] = {
            name: _Cell(group, summary.baseline(group) if group.attacked else None, marks.get(name, ""))
            for name, group in groups[key].items()
        }
    return rows


def _marks(row: dict[str, Group], metric: Metric) -> dict[str, str]:
    """Which defenses of a row cannot be told from its best, and which not from its worst, where the two differ.

    Defenses are compared on equal seeds, all pairs at 95% together; a single seed tells nothing apart.
    """
    means = {name: group.mean for name, group in row.items() if group.mean is not None}
    if metric.better == "neither" or len(means) < 2:
        return {}
    highest, lowest = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    best, worst = (lowest, highest) if metric.better == "lower" else (highest, lowest)

    def apart(one: str, other: str) -> bool:
        differ = metric.write(means[one]) != metric.write(means[other])
        return differ and direction(row[one].by_seed, row[other].by_seed, settings=len(means)) != 0

    if not apart(best, worst):
        return {}
    near = {end: {name for name in means if not apart(name, end)} for end in (best, worst)}
    both = near[best] & near[worst]
    return dict.fromkeys(near[best] - both, _BEST) | dict.fromkeys(near[worst] - both, _WORST)


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
    pending = sum(record["status"] not in ("done", "failed", "refused") for record in group.records)
    counts = {"failed": group.failed, "pending": pending, "n/a": cells - group.failed - pending - group.n}
    absent = {word: count for word, count in counts.items() if count}
    if group.mean is None and len(absent) == 1:
        return next(iter(absent)), "", "", ""
    note = ", ".join(f"{count} of {cells} {word}" for word, count in absent.items())
    if group.mean is None:
        return "-", "", "", note
    note = ", ".join(filter(None, [note, _divergence(group)]))
    interval, change = "", ""
    if metric.by_chance and group.interval is not None:
        low, high = map(metric.write, group.interval)
        interval = f"[{low}..{high}]" if low != high else ""
    if baseline is not None and (paired := differences(group.by_seed, baseline.by_seed)):
        alike = "~" if len(paired) > 1 and not direction(group.by_seed, baseline.by_seed) else ""
        change = f"({alike}{metric.write(fmean(paired), '+')})"
    return f"{cell.mark}{metric.write(group.mean)}", interval, change, note


def _divergence(group: Group) -> str:
    """That models of these cells diverged, and when."""
    rounds = sorted(set(group.diverged))
    if not rounds:
        return ""
    when = f"in round {rounds[0]}" if len(rounds) == 1 else f"in rounds {rounds[0]} to {rounds[-1]}"
    some = "" if len(group.diverged) == len(group.records) else f"{len(group.diverged)} of {len(group.records)} "
    return f"{some}diverged {when}"


def _legend(summary: Summary, marks: set[str]) -> list[str]:
    counts = [group.n for group in summary.groups if group.n]
    least, most = min(counts, default=0), max(counts, default=0)
    parts = []
    if most > 1:
        seeds = f"{most}" if least == most else f"{least} to {most}"
        parts.append(f"mean over {seeds} seeds")
        if summary.row.by_chance:
            parts.append(spans(most))
    attacked = [(group, summary.baseline(group)) for group in summary.groups if group.attacked]
    if any(baseline for _, baseline in attacked):
        unit = " in points" if summary.row.is_fraction else ""
        parts.append(f"in parentheses the change against no attack on equal seeds{unit}")
        if any(base and not direction(group.by_seed, base.by_seed) and base.n > 1 for group, base in attacked):
            parts.append("~ not told apart from it")
    if marks:
        parts.append(f"on equal seeds {_BEST} cannot be told from the best of a row, {_WORST} not from the worst")
    elif most == 1 and len({group.axes.get(DEFENSE) for group in summary.groups}) > 1:
        parts.append("a single seed does not tell best from worst")
    return parts
