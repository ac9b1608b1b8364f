"""The table at the end of a run: rows attacks, columns defenses, means over seeds with their intervals."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedsec.runs.summary import ATTACK, DEFENSE, LOWER_IS_BETTER, Group, Record, Summary, summarize

_BEST, _WORST = "*", "!"
_STYLES = {_BEST: "bold green", _WORST: "red", "": ""}
_Key = tuple[str, ...]


@dataclass(frozen=True)
class _Cell:
    group: Group
    baseline: Group | None
    mark: str


@dataclass(frozen=True)
class _Scale:
    """How a metric is written: fractions as percentages with one decimal, anything else with three."""

    metric: str

    @property
    def percent(self) -> bool:
        return "accuracy" in self.metric

    def write(self, value: float, sign: str = "-") -> str:
        return f"{100 * value:{sign}.1f}" if self.percent else f"{value:{sign}.3f}"


@dataclass(frozen=True)
class _Reading:
    """A table cell: value and change side by side where the column is wide enough, else one below the other."""

    value: str
    change: str
    note: str
    style: str

    @property
    def narrowest(self) -> int:
        return max(len(self.value), len(self.change), *(len(word) for word in self.note.split()), 0)

    @property
    def widest(self) -> int:
        side_by_side = len(self.value) + 1 + len(self.change) if self.change else len(self.value)
        return max(side_by_side, len(self.note))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.narrowest, self.widest)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fits = len(self.value) + 1 + len(self.change) <= options.max_width
        line = Text(self.value, style=self.style, no_wrap=True)
        if self.change.strip():
            line.append(" " if fits else "\n" + " " * (len(self.value) - len(self.change)))
            line.append(self.change, style="not bold dim")
        yield line
        if self.note:
            yield Text(self.note, style="bold red")


def table(records: Sequence[Record], metric: str = "accuracy", *, width: int | None = None) -> Table:
    """The summary of a run, ready to print.

    Rows are attacks (the one without an attack first, as the baseline), columns are defenses; any further axis becomes
    a row key to the left. Each cell shows the mean over seeds, half the width of its 95% interval, and under attack the
    change against the baseline of the same defense. Where the columns do not fit the width, each defense gets a row.

    Args:
        records: the cells' records, in file order.
        metric: a scalar entry of the records' `metrics`; accuracies, which are fractions, appear as percentages.
        width: the columns of the terminal; those of the current one by default.

    Returns:
        A rich table with its legend as the caption.
    """
    summary = summarize(records, metric)
    if width is None:
        width = shutil.get_terminal_size().columns
    wide = _wide(summary)
    fits = wide.narrowest <= width or DEFENSE not in summary.axes
    return (wide if fits else _long(summary)).draw(summary, width)


@dataclass(frozen=True)
class _Layout:
    """Columns of equal length, by header; `keys` of them lead and name the row."""

    headers: tuple[str, ...]
    columns: tuple[Sequence[str | _Reading], ...]
    keys: int

    @property
    def narrowest(self) -> int:
        return sum(narrow for narrow, _ in self._ranges()) + 3 * (len(self.headers) - 1)

    def widths(self, width: int) -> list[int]:
        """As wide as the contents, or narrowed where that saves most; rich itself would break words first."""
        ranges = self._ranges()
        widths = [natural for _, natural in ranges]
        excess = sum(widths) + 3 * (len(widths) - 1) - width
        slack = [natural - narrow for narrow, natural in ranges]
        for column in sorted(range(len(widths)), key=slack.__getitem__, reverse=True):
            saved = max(0, min(excess, slack[column]))
            widths[column] -= saved
            excess -= saved
        return widths

    def _ranges(self) -> list[tuple[int, int]]:
        columns = zip(self.headers, self.columns, strict=True)
        ranges = [[_range(cell) for cell in (header, *column)] for header, column in columns]
        return [(max(narrow for narrow, _ in column), max(wide for _, wide in column)) for column in ranges]

    def draw(self, summary: Summary, width: int) -> Table:
        title = f"{summary.metric} (%)" if _Scale(summary.metric).percent else summary.metric
        drawn = Table(title=title, caption=_legend(summary), title_justify="left", caption_justify="left")
        drawn.box, drawn.show_edge, drawn.pad_edge = box.SIMPLE_HEAD, False, False
        for header, columns in zip(self.headers, self.widths(width), strict=True):
            drawn.add_column(Text(_breakable(header)), overflow="fold", width=columns)
        above: tuple[str | _Reading, ...] = ()
        for row in zip(*self.columns, strict=True):
            # A name that stands above already is left out, and a new one to the left of the last starts a block.
            same = next((i for i in range(self.keys) if row[: i + 1] != above[: i + 1]), self.keys)
            if above and same < self.keys - 1:
                drawn.add_section()
            cells = ["" if i < same else cell for i, cell in enumerate(row)]
            drawn.add_row(*(Text(_breakable(cell)) if isinstance(cell, str) else cell for cell in cells))
            above = row
        return drawn


def _wide(summary: Summary) -> _Layout:
    """A row for each attack, a column for each defense."""
    rows = _rows(summary)
    defenses = list(dict.fromkeys(name for row in rows.values() for name in row))
    readings = [_readings(summary.metric, [row.get(name) for row in rows.values()]) for name in defenses]
    keys = _keys(summary)
    return _Layout((*_headers(keys), *defenses), (*_transposed(rows, len(keys)), *readings), len(keys))


def _long(summary: Summary) -> _Layout:
    """A row for each attack and defense."""
    cells = {(*key, name): cell for key, row in _rows(summary).items() for name, cell in row.items()}
    keys = [*_keys(summary), DEFENSE]
    readings = _readings(summary.metric, list(cells.values()))
    return _Layout((*_headers(keys), summary.metric), (*_transposed(cells, len(keys)), readings), len(keys))


def _headers(axes: Iterable[str]) -> list[str]:
    return [axis.replace(".", ".\n") for axis in axes]


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
        marks = _marks(found[key], summary.metric)
        rows[key] = {
            name: _Cell(group, summary.baseline(group) if group.attacked else None, marks.get(name, ""))
            for name, group in found[key].items()
        }
    return rows


def _marks(row: dict[str, Group], metric: str) -> dict[str, str]:
    """Which defenses of a row are best and worst, as far as the printed digits tell them apart."""
    means = {name: float(_Scale(metric).write(group.mean)) for name, group in row.items() if group.mean is not None}
    if len(set(means.values())) < 2:
        return {}
    ends = max(means.values()), min(means.values())
    best, worst = reversed(ends) if metric in LOWER_IS_BETTER else ends
    return {name: _BEST if mean == best else _WORST for name, mean in means.items() if mean in (best, worst)}


def _readings(metric: str, cells: Sequence[_Cell | None]) -> list[_Reading]:
    """The cells of one column, padded so that their decimal points line up."""
    parts = [_parts(_Scale(metric), cell) for cell in cells]
    mean_width, interval_width, change_width = (max((len(part[i]) for part in parts), default=0) for i in range(3))
    readings = []
    for cell, (mean, interval, change, note) in zip(cells, parts, strict=True):
        value = f"{mean:>{mean_width}} {interval:<{interval_width}}" if interval_width else f"{mean:>{mean_width}}"
        readings.append(_Reading(value, f"{change:>{change_width}}", note, _STYLES[cell.mark if cell else ""]))
    return readings


def _parts(scale: _Scale, cell: _Cell | None) -> tuple[str, str, str, str]:
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
    interval = "" if group.half_width is None else f"±{scale.write(group.half_width)}"
    change = f"({scale.write(group.mean - baseline.mean, '+')})" if baseline and baseline.mean is not None else ""
    return f"{cell.mark}{scale.write(group.mean)}", interval, change, note


def _breakable(text: str) -> str:
    """`text` with a place where a narrow column may break it: before its options."""
    return text.replace("(", " (", 1)


def _range(cell: str | _Reading) -> tuple[int, int]:
    """The narrowest width that breaks no word, and the width that breaks no line."""
    if isinstance(cell, _Reading):
        return cell.narrowest, cell.widest
    text = _breakable(cell)
    return max(map(len, text.split()), default=0), max(map(len, text.splitlines()), default=0)


def _legend(summary: Summary) -> Text:
    counts = [group.n for group in summary.groups if group.n]
    least, most = min(counts, default=0), max(counts, default=0)
    parts = []
    if most > 1:
        seeds = f"{most}" if least == most else f"{least} to {most}"
        parts.append(f"mean over {seeds} seeds ± half width of the 95% t-interval")
    if any(group.attacked and summary.baseline(group) for group in summary.groups):
        unit = " in points" if _Scale(summary.metric).percent else ""
        parts.append(f"in parentheses the change against no attack{unit}")
    if any(group.axes.get(DEFENSE) != summary.groups[0].axes.get(DEFENSE) for group in summary.groups):
        parts.append(f"{_BEST} best and {_WORST} worst of a row")
    return Text("; ".join(parts), style="dim")
