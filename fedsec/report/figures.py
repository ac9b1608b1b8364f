"""Pictures of what models are trained for, accuracy as a rule: over the rounds, or at the end of a single one."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedsec.errors import printable
from fedsec.files import write_atomic
from fedsec.metrics.metric import ACCURACY, Metric
from fedsec.report.evidence.round_lines import round_lines
from fedsec.report.intervals import interval
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, primary, summarize, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALWAYS_BLACK = "#010101"
ALWAYS_WHITE = "#fefefe"
"""For letters on colors: a page turns a picture's other black, grays and white into those of its theme."""
# Okabe and Ito's palette for color-blind readers, without its yellow, which is too faint on white. Lines also differ in
# their marker, and from the eighth on in their dashes.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
NO_ATTACK = "no attack"
_PANELS = 12
_LINES = 12
"""Settings without attack or defense stand beside each other in one panel, as long as they are no more than this."""
_CHARACTER = 0.085
"""The width of a character of the legend, in inches."""
_NARROW, _WIDE = 34, 68
"""Characters in a line of a heading: above a panel, and beside a row."""
_LINE = 0.15
"""The height of a line of a heading, in inches."""


@dataclass(frozen=True)
class _Curve:
    """One defense in one panel: `values` is `[seeds, rounds]` of a metric, in percent if it is a fraction."""

    rounds: NDArray[np.int64]
    values: NDArray[np.float64]
    metric: Metric

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.asarray(self.values.mean(axis=0))

    @property
    def band(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the seeds span, see `fedsec.report.intervals`; the mean itself for a single seed."""
        return interval(self.values)


_Panel = dict[str, _Curve]
_PanelKey = tuple[str, str]
"""Setting and attack."""
_Key = TypeVar("_Key")


@dataclass(frozen=True)
class CurvePage:
    """A figure of up to 12 panels.

    Args:
        figure: of matplotlib.
        panels: the name of each panel, and of each of its lines the mean over seeds where it ends.
        rounds: the last round that is shown.
    """

    figure: "Figure"
    panels: Sequence[tuple[str, Mapping[str, float]]]
    rounds: int


def curve_figures(root: Path, records: Sequence[Record]) -> "list[Figure]":
    """The figures of `curve_pages`."""
    return [page.figure for page in curve_pages(root, records)]


def curve_pages(root: Path, records: Sequence[Record]) -> list[CurvePage]:
    """What models are trained for over the rounds, of every finished cell.

    One panel for each attack (the one without first), one line for each defense: the mean over seeds, with what they
    span as a band. Where there are neither attacks nor defenses to compare, one panel with a line for each setting.
    Where no cell was evaluated more than once, points with intervals take the place of lines. A cell that diverged
    stays where it was.

    Args:
        root: the run's folder, which holds `<cell id>/rounds.jsonl`.
        records: the cells' records.

    Returns:
        A page for each 12 panels; none if no cell has finished.
    """
    metric = primary(records)
    panels = _panels(root, records, metric)
    if not panels:
        return []
    defenses = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    looks = {name: look(index) for index, name in enumerate(defenses)}
    draw = _draw_rounds
    if all(len(curve.rounds) == 1 for panel in panels.values() for curve in panel.values()):
        draw = _draw_points
        panels = _as_rows(panels)
    return [_as_page(figure, keys, panels) for figure, keys in draw(panels, looks, metric)]


def _as_rows(panels: Mapping[_PanelKey, _Panel]) -> dict[_PanelKey, _Panel]:
    """Settings of which each would have a panel for a single point are rows of one panel instead."""
    if len(panels) == 1 or any(len(panel) > 1 or attack != NO_ATTACK for (_, attack), panel in panels.items()):
        return dict(panels)
    return {("", setting): panel for (setting, _), panel in panels.items()}


def _as_page(figure: "Figure", keys: Sequence[_PanelKey], panels: Mapping[_PanelKey, _Panel]) -> CurvePage:
    named = [
        (", ".join(filter(None, key)), {name: float(curve.mean[-1]) for name, curve in panels[key].items()})
        for key in keys
    ]
    return CurvePage(figure, named, max(int(curve.rounds[-1]) for key in keys for curve in panels[key].values()))


def draw_curves(root: Path, records: Sequence[Record], into: Path | None = None) -> list[Path]:
    """Draw `curve_figures` into files of the metric's name, `accuracy.png`, `accuracy-2.png`, ... as a rule.

    Args:
        root: the run's folder.
        records: the cells' records.
        into: the folder of the pictures; the run's by default.

    Returns:
        The files written; none if no cell has finished.
    """
    return save_all(curve_figures(root, records), into or root, primary(records).name)


def save_all(figures: "Iterable[Figure]", folder: Path, name: str) -> list[Path]:
    """Write figures as `name.png`, `name-2.png`, ..., each whole or not at all."""
    return [
        save(figure, folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png"))
        for number, figure in enumerate(figures, start=1)
    ]


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in a script the font lacks
        figure.savefig(png, format="png", dpi=150)
    write_atomic(path, png.getvalue())
    return path


def plain(text: str) -> str:
    """`text` as matplotlib shall show it: no mathematics between dollar signs, and nothing that no font can show."""
    return printable(text, keep="\n").replace("$", r"\$")


def history(root: Path, cell_id: str, metric: str = ACCURACY.name) -> dict[int, float]:
    """Round -> metric of one cell, from its `rounds.jsonl`; rounds that were not evaluated are left out."""
    values: dict[int, float] = {}
    for line in round_lines(root / cell_id):
        with suppress(ValueError, TypeError, KeyError):
            values[line["round"]] = float(line[metric])
    return values


def _panels(root: Path, records: Sequence[Record], metric: Metric) -> dict[tuple[str, str], _Panel]:
    """(setting, attack) -> defense -> curve, without-attack first in each setting."""
    summary = summarize([record for record in records if record.get("status") == "done"])
    panels: dict[tuple[str, str], _Panel] = {}
    attacked: dict[tuple[str, str], bool] = {}
    for group in summary.groups:
        curve = _curve(root, group, metric)
        if curve is None:
            continue
        setting = ", ".join(f"{axis}={group.axes[axis]}" for axis in summary.further if axis in group.axes)
        key = setting, group.axes.get(ATTACK, "") if group.attacked else NO_ATTACK
        panels.setdefault(key, {})[group.axes.get(DEFENSE, summary.metric)] = curve
        attacked[key] = group.attacked
    alone = all(len(panel) == 1 for panel in panels.values()) and not any(attacked.values())
    if alone and 1 < len(panels) <= _LINES:
        return {("", ""): {setting: next(iter(panel.values())) for (setting, _), panel in panels.items()}}
    settings = list(dict.fromkeys(setting for setting, _ in panels))
    return {key: panels[key] for key in sorted(panels, key=lambda key: (settings.index(key[0]), attacked[key]))}


def _curve(root: Path, group: Group, metric: Metric) -> _Curve | None:
    """The rounds that every seed of the group was evaluated in; the final value where no history was kept."""
    logs = [(record, log) for record in group.records if (log := history(root, record["id"], metric.name))]
    evaluated = sorted({number for _, log in logs for number in log})
    histories = []
    for record, log in logs:
        ended = value_of(record, "diverged_in_round") is not None
        after = [number for number in evaluated if ended and number > max(log)]
        histories.append({**log, **dict.fromkeys(after, log[max(log)])})
    if not histories:
        return _Curve(np.array([1]), metric.factor * np.array(group.values)[:, None], metric) if group.values else None
    rounds = sorted(set.intersection(*map(set, histories)))
    if not rounds:
        return None
    values = np.array([[values[number] for number in rounds] for values in histories])
    return _Curve(np.array(rounds), metric.factor * values, metric)


def look(index: int) -> dict[str, Any]:
    """How the one of this number is drawn: color, marker and dashes tell it from the others."""
    again = index // len(_COLORS)
    return {
        "color": _COLORS[index % len(_COLORS)],
        "marker": _MARKERS[(index + again) % len(_MARKERS)],
        "linestyle": _DASHES[again % len(_DASHES)],
        "markerfacecolor": "white" if again % 2 else _COLORS[index % len(_COLORS)],
    }


def _draw_rounds(
    panels: Mapping[tuple[str, str], _Panel], looks: Mapping[str, dict[str, Any]], metric: Metric
) -> Iterator[tuple["Figure", list[_PanelKey]]]:
    from matplotlib.ticker import MaxNLocator

    keys = list(panels)
    limits = _limits(panels, metric)
    attacks = len({attack for _, attack in keys})
    # A row for each setting, where the attacks fit side by side.
    across = attacks if len(keys) % attacks == 0 and 1 < attacks <= 5 else 3
    pages = _pages(keys, across, size=(3.4 if across < 4 else 2.7, 2.7), looks=looks, labels=("round", metric.title))
    for figure, page in pages:
        for key, axes in page:
            for name, curve in panels[key].items():
                _draw_line(axes, curve, looks[name], list(looks).index(name), len(looks))
            axes.set_title(_heading(*key), fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
            axes.grid(color="0.9", linewidth=0.6)
            axes.set_ylim(*limits)
        yield figure, [key for key, _ in page]


def _draw_line(axes: "Axes", curve: _Curve, look: Mapping[str, Any], index: int, lines: int) -> None:
    spacing = max(1, len(curve.rounds) // 8, min(lines, len(curve.rounds) // 3))
    width = 1.2 + 1.6 * (1 - (index + 1) / lines)  # of lines that coincide the earlier ones show at the edges
    first = index % spacing  # markers of lines that coincide stand beside each other
    axes.plot(curve.rounds, curve.mean, markersize=3.5, markevery=(first, spacing), linewidth=width, **look)
    if len(curve.values) > 1:
        axes.fill_between(curve.rounds, *curve.band, color=look["color"], alpha=0.15, linewidth=0)


def _draw_points(
    panels: Mapping[tuple[str, str], _Panel], looks: Mapping[str, dict[str, Any]], metric: Metric
) -> Iterator[tuple["Figure", list[_PanelKey]]]:
    """A row for each attack, a point for each defense; one panel for each setting."""
    settings = list(dict.fromkeys(setting for setting, _ in panels))
    attacks = list(dict.fromkeys(attack for _, attack in panels))
    limits = _limits(panels, metric)
    wide = settings == [""] and max(map(len, attacks)) > _NARROW  # a single panel has room for long names
    names = [_heading(attack, width=_WIDE if wide else _NARROW) for attack in attacks]
    titles = [_heading(setting) for setting in settings]
    row_height = max(0.16 * len(looks) + 0.14, _LINE * max(map(_lines, names)) + 0.06)
    height = row_height * len(attacks) + 0.2 + _LINE * max(map(_lines, titles))
    size = 7.4 if wide else 4.2, height
    for figure, page in _pages(settings, 2, size=size, looks=looks, labels=(metric.title, "")):
        for setting, axes in page:
            for row, attack in enumerate(attacks):
                if row % 2 == 0:
                    axes.axhspan(row - 0.5, row + 0.5, color="0.96", linewidth=0, zorder=0)
                for name, curve in panels.get((setting, attack), {}).items():
                    place = row + (list(looks).index(name) - (len(looks) - 1) / 2) * 0.8 / len(looks)
                    (low, high), mean = curve.band, curve.mean
                    axes.errorbar(
                        mean, [place], xerr=np.maximum(0, [mean - low, high - mean]), markersize=4.5, **looks[name]
                    )
            axes.set_title(_heading(setting), fontsize=9)
            axes.set_yticks(range(len(attacks)), names, fontsize=9)
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(attacks) - 0.5, -0.5)
            axes.set_xlim(*limits)
            axes.grid(axis="x", color="0.88", linewidth=0.6)
        shown = {setting for setting, _ in page}
        yield figure, [key for key in panels if key[0] in shown]


def _pages(
    keys: Sequence[_Key],
    across: int,
    *,
    size: tuple[float, float],
    looks: Mapping[str, dict[str, Any]],
    labels: tuple[str, str],
) -> Iterator[tuple["Figure", list[tuple[_Key, "Axes"]]]]:
    """Figures with a panel of the given size (inches) for each key, axes shared and labeled, and one legend below."""
    from matplotlib.figure import Figure

    across = min(across, len(keys))
    most = across * max(1, _PANELS // across)
    for start in range(0, len(keys), most):
        page = keys[start : start + most]
        down = math.ceil(len(page) / across)
        width = max(size[0] * across + 0.6, 5.5)
        rows = _legend_rows(list(looks), width) if len(looks) > 1 else 0
        figure = Figure(figsize=(width, size[1] * down + 0.3 + 0.22 * rows), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for position, axes in enumerate(grid.flat):
            axes.set_visible(position < len(page))
            axes.set_axisbelow(True)
            axes.tick_params(labelsize=9)
            if position + across >= len(page):  # the lowest of its column, also where the last row ends early
                axes.tick_params(labelbottom=True)
                axes.set_xlabel(plain(labels[0]), fontsize=9)
            if position % across == 0:
                axes.set_ylabel(plain(labels[1]), fontsize=9)
        _add_legend(figure, looks, rows)
        yield figure, list(zip(page, grid.flat, strict=False))


def _heading(*parts: str, width: int = _NARROW) -> str:
    """The parts below each other, those longer than `width` characters wrapped, at their options for choice."""
    wrapped = (textwrap.wrap(part.replace("(", " (", 1), width) for part in parts)
    return plain("\n".join(line for lines in wrapped for line in lines))


def _lines(heading: str) -> int:
    return heading.count("\n") + 1


def _limits(panels: Mapping[tuple[str, str], _Panel], metric: Metric) -> tuple[float, float]:
    """The range of all bands and a margin; of percentages at least five points, so that noise does not fill it."""
    ends = [end for panel in panels.values() for curve in panel.values() for end in curve.band]
    low, high = float(min(map(np.min, ends))), float(max(map(np.max, ends)))
    if not metric.is_fraction:
        margin = 0.04 * (high - low) or 1.0
        return low - margin, high + margin
    margin = max(0.04 * (high - low), (5 - (high - low)) / 2)
    return max(low - margin, -1), min(high + margin, 101)


def _legend_rows(names: Sequence[str], width: float) -> int:
    """Over how few rows the legend's entries, which fill its columns one by one, fit the width (inches)."""
    for rows in range(1, len(names)):
        columns = (names[start : start + rows] for start in range(0, len(names), rows))
        if sum(max(map(len, column)) * _CHARACTER + 0.65 for column in columns) <= width:
            return rows
    return len(names)


def _add_legend(figure: "Figure", looks: Mapping[str, dict[str, Any]], rows: int) -> None:
    from matplotlib.lines import Line2D

    if rows:
        # A leading blank, since matplotlib before 3.10 leaves out labels that start with an underscore.
        labels = [" " + plain(name) for name in looks]
        handles = [Line2D([], [], markersize=4.5, **look) for look in looks.values()]
        columns = math.ceil(len(looks) / rows)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
