"""Pictures of runs against each other: a dot for each difference with its interval, and the curves of both."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedsec.metrics.metric import Metric
from fedsec.report.comparison.differences import SettingDifference
from fedsec.report.comparison.pairing import CellPair
from fedsec.report.comparison.run_comparison import ComparedRun, RunComparison
from fedsec.report.figures import history, look, plain
from fedsec.report.intervals import interval
from fedsec.report.summary import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_DOTS", "MOST_PANELS", "difference_figures", "paired_curves"]

MOST_DOTS = 72
"""So many settings are drawn at most, those that differ most."""
MOST_PANELS = 12
_ON_PAGE = 36
_TOLD_APART = ("better", "worse", "higher", "lower")
_Series = tuple[NDArray[np.int64], NDArray[np.float64]]


def difference_figures(comparisons: Sequence[RunComparison], metric: Metric) -> "Iterator[Figure]":
    """A row for each setting: the mean difference to the first run, filled where seeds tell it apart.

    Args:
        comparisons: all against the same run.
        metric: whose differences.
    """
    by_run = [
        (compared.other.name, {describe(one.setting): one for one in of_metric.settings})
        for compared in comparisons
        for of_metric in compared.metrics
        if of_metric.metric.name == metric.name
    ]
    names = list(dict.fromkeys(name for _, settings in by_run for name in settings))
    largest = {name: max(abs(settings[name].mean) for _, settings in by_run if name in settings) for name in names}
    drawn = set(sorted(names, key=largest.__getitem__, reverse=True)[:MOST_DOTS])
    names = [name for name in names if name in drawn]
    for start in range(0, len(names), _ON_PAGE):
        yield _dots(names[start : start + _ON_PAGE], by_run, metric)


def _dots(
    names: Sequence[str], by_run: Sequence[tuple[str, Mapping[str, SettingDifference]]], metric: Metric
) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    labels = ["\n".join(textwrap.wrap(name.replace("(", " ("), 44)) for name in names]
    lines = sum(label.count("\n") + 1 for label in labels)
    height = max(0.17 * lines, 0.2 * len(names) * (1 + 0.4 * (len(by_run) - 1))) + 0.9
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    for number, (_, settings) in enumerate(by_run):
        style = look(number) | {"linestyle": "none"}
        shift = (number - (len(by_run) - 1) / 2) * 0.6 / len(by_run)
        for row, name in enumerate(names):
            if (one := settings.get(name)) is None:
                continue
            fill = style["color"] if one.verdict in _TOLD_APART else "white"
            width = None if one.half_width is None else [metric.factor * one.half_width]
            dot = {**style, "markerfacecolor": fill, "markersize": 5, "linewidth": 1.2}
            axes.errorbar([metric.factor * one.mean], [row + shift], xerr=width, **dot)
    axes.set_yticks(range(len(names)), [plain(label) for label in labels], fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    unit = " in points" if metric.is_fraction else f" ({metric.unit})" if metric.unit else ""
    axes.set_xlabel(plain(f"difference of {metric.name}{unit}"), fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(by_run) > 1:
        handles = [Line2D([], [], **look(number) | {"linestyle": "none"}) for number in range(len(by_run))]
        texts = [" " + plain(name) for name, _ in by_run]
        figure.legend(handles, texts, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def paired_curves(compared: RunComparison) -> "Figure | None":
    """The main metric of both over the rounds, a panel for each of the settings that differ most.

    Args:
        compared: a run against the first.

    Returns:
        None where no setting was evaluated more than once in both.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    metric = compared.main
    curves: dict[str, tuple[_Series, _Series]] = {}
    order = sorted(compared.metrics[0].settings, key=lambda one: -abs(one.mean))
    pairs: dict[str, list[CellPair]] = {}
    for pair in compared.trained.pairs:
        pairs.setdefault(describe(pair.setting), []).append(pair)
    for one in order:
        name = describe(one.setting)
        first = _curve(compared.first, [pair.first["id"] for pair in pairs[name]], metric)
        other = _curve(compared.other, [pair.other["id"] for pair in pairs[name]], metric)
        if first is not None and other is not None and max(len(first[0]), len(other[0])) > 1:
            curves[name] = first, other
        if len(curves) == MOST_PANELS:
            break
    if not curves:
        return None
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure = Figure(figsize=(max(2.7 * across, 4) + 0.5, 2.2 * down + 0.6), layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < len(curves))
    styles = [look(0), look(1) | {"linestyle": (0, (4, 2))}]
    for (name, both), axes in zip(curves.items(), grid.flat, strict=False):
        _panel(axes, name, both, styles)
    for row in grid:
        row[0].set_ylabel(plain(metric.title), fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("round", fontsize=8)
    handles = [Line2D([], [], **style) for style in styles]
    texts = [" " + plain(run.name) for run in (compared.first, compared.other)]
    figure.legend(handles, texts, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _panel(axes: "Axes", name: str, both: tuple[_Series, _Series], styles: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (rounds, values), style in zip(both, styles, strict=True):
        spacing = max(1, len(rounds) // 6)
        axes.plot(rounds, values.mean(axis=0), markersize=3, markevery=spacing, linewidth=1.3, **style)
        if len(values) > 1:
            axes.fill_between(rounds, *interval(values), color=style["color"], alpha=0.15, linewidth=0)
    axes.set_title(plain("\n".join(textwrap.wrap(name.replace("(", " ("), 34))), fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=7)
    axes.grid(color="0.9", linewidth=0.6)


def _curve(run: ComparedRun, cells: Sequence[str], metric: Metric) -> _Series | None:
    """The rounds that all of these cells were evaluated in, and the metric, `[seeds, rounds]`."""
    logs = [log for cell in cells if (log := history(run.root, cell, metric.name))]
    rounds = sorted(set.intersection(*map(set, logs))) if logs else []
    if not rounds:
        return None
    return np.array(rounds), metric.factor * np.array([[log[number] for number in rounds] for log in logs])
