"""The picture of the trade: what each defense costs in accuracy, and what a curious server still sees."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsec.metrics.metric import Metric, described, of_source
from fedsec.report.best_inversions import strongest
from fedsec.report.evidence.label_placement import Box, label_points
from fedsec.report.figures import look, plain, save_all
from fedsec.report.missing_values import inverted
from fedsec.report.summary import ATTACK, DEFENSE, INVERSION, Group, Record, primary, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS, _MOST_LABELS = 12, 14
_LINE = 0.2
"""The height of a line of the legend, in inches."""

_Spread = tuple[float, float, float]
"""A mean over seeds, and the ends of their interval."""


@dataclass(frozen=True)
class _Plane:
    """What the two axes hold: how much leaks, and how good the model is."""

    leakage: Metric
    quality: Metric

    @property
    def rising(self) -> bool:
        """Whether more of the leakage's number is more leakage."""
        return self.leakage.better == "higher"


@dataclass(frozen=True)
class _Point:
    """One defense: its name, leakage and quality as the axes show them: mean, and what the seeds span."""

    name: str
    leakage: _Spread
    quality: _Spread

    @property
    def bars(self) -> tuple[Box, Box]:
        """What its intervals span, across and up."""
        (x, left, right), (y, low, high) = self.leakage, self.quality
        return Box(min(left, x), y, max(right, x), y), Box(x, min(low, y), x, max(high, y))


def draw_tradeoff(root: Path, records: Sequence[Record], into: Path | None = None) -> list[Path]:
    """Draw `tradeoff_figures` into `tradeoff.png`.

    Args:
        root: the run's folder.
        records: the cells' records.
        into: the folder of the pictures; the run's by default.

    Returns:
        The file written; none if nothing was reconstructed, or there is nothing to compare.
    """
    return save_all(tradeoff_figures(records), into or root, "tradeoff")


def tradeoff_figures(records: Sequence[Record]) -> "list[Figure]":
    """How good models are against what leaks, a point for each defense, its epsilon beside it.

    Good is what they are trained for, accuracy as a rule. Leakage is LPIPS where all cells have it, else SSIM, whose
    dotted line is what a gray image scores. Where several attackers were tried on the same messages, each defense is
    judged by the strongest. A panel for each setting and attack; settings of one defense each, which make no panel,
    stand in one together. The staircase joins defenses that no other beats in both. Names stand at the points, or in a
    legend where more than 14 points share a panel.

    Args:
        records: the cells' records.

    Returns:
        The figure; none if nothing was reconstructed, or there is nothing to compare.
    """
    from matplotlib.figure import Figure

    done = [record for record in records if record.get("status") == "done" and inverted(record)]
    best = strongest(records)
    summary = summarize([record for record in best.records if record.get("status") == "done"] or done)
    measured = [group for group in summary.groups if _of(group, "ssim") is not None]
    leakage = "lpips" if measured and all(_of(group, "lpips") is not None for group in measured) else "ssim"
    plane = _Plane(described(leakage), primary(done))
    panels = _panels(measured, best.axes)
    if not panels:
        return []
    shown = list(panels.items())[:_PANELS]
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    drawn = [[_point(name, group, plane) for name, group in groups.items()] for _, groups in shown]
    crowded = any(len(points) > _MOST_LABELS for points in drawn)
    lines = [sum(point.name.count("\n") + 1 for point in points) for points in drawn if crowded]
    height = max([4.8, *(_LINE * (count + 4) for count in lines)])  # the legend must not be cut off
    width = 8.0 if crowded or across == 1 else 7.0
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for position, axes in enumerate(grid.flat):
        axes.set_visible(position < len(shown))
    for (title, groups), points, axes in zip(shown, drawn, grid.flat, strict=False):
        _draw(axes, title, groups, points, plane)
        if crowded:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
    if not crowded:
        figure.draw_without_rendering()  # settles the layout that labels are placed in
        for points, axes in zip(drawn, grid.flat, strict=False):
            bars = [*(bar for point in points for bar in point.bars), *_steps(_stairs(points, plane), plane)]
            named = [(point.name, point.leakage[0], point.quality[0]) for point in points]
            label_points(axes, named, bars, list(axes.texts))
    return [figure]


def front(points: Sequence[tuple[float, float]], *, rising: bool, upward: bool = True) -> list[int]:
    """Places of the points (leakage, quality) that none beats: leaks no more, is no worse, and better in one.

    Args:
        points: of defenses.
        rising: whether more of the first number is more leakage.
        upward: whether more of the second number is better.
    """
    costs = [(leakage if rising else -leakage, -quality if upward else quality) for leakage, quality in points]
    best = [
        place
        for place, (leakage, loss) in enumerate(costs)
        if not any(one <= leakage and other <= loss and (one, other) != (leakage, loss) for one, other in costs)
    ]
    return sorted(best, key=lambda place: points[place])


def _panels(groups: Sequence[Group], rivals: Sequence[str]) -> dict[str, dict[str, Group]]:
    """Title -> name of a point -> its cells.

    Args:
        groups: all that is drawn.
        rivals: the axes of attackers of which only the strongest are left, and named beside the defense.
    """
    by_attack: dict[str, list[Group]] = {}
    for group in groups:
        whose = [axis for axis in group.axes if axis.partition(".")[0] in (ATTACK, INVERSION) and axis not in rivals]
        by_attack.setdefault(_named(whose, group), []).append(group)
    panels: dict[str, dict[str, Group]] = {}
    for members in by_attack.values():
        axes = [axis for axis in members[0].axes if axis not in (DEFENSE, *rivals)]
        titles = [_named(axes, group) for group in members]
        inner = list[str]()
        if any(titles.count(title) < 2 for title in titles):
            # Who is alone in its setting is compared with the others: what sets it apart is part of its defense.
            inner = [axis for axis in axes if len({group.axes.get(axis) for group in members}) > 1]
        usual = {axis: _majority(members, axis) for axis in inner}
        for group in members:
            name = group.axes.get(DEFENSE, "")
            if own := [group.axes[axis] for axis in inner if group.axes.get(axis) not in (None, usual[axis])]:
                name += f" ({', '.join(own)})"
            if rivals:
                name += f"\nby {', '.join(group.axes[axis] for axis in rivals if axis in group.axes)}"
            shared = _named([axis for axis in axes if axis not in inner], group)
            unless = ", ".join(f"{axis}={text}" for axis, text in usual.items() if text is not None)
            title = ", ".join(filter(None, [shared, unless and f"{unless} unless said"]))
            panels.setdefault(title, {})[name] = group
    best = ["the best attacker of each defense"] if rivals else []
    return {", ".join(filter(None, [title, *best])): points for title, points in panels.items() if len(points) > 1}


def _majority(groups: Sequence[Group], axis: str) -> str | None:
    """What more than half of the groups have on the axis; None if no value has so many."""
    text, count = Counter(group.axes.get(axis) for group in groups).most_common(1)[0]
    return text if 2 * count > len(groups) else None


def _named(axes: Sequence[str], group: Group) -> str:
    return ", ".join(f"{axis}={group.axes[axis]}" for axis in axes if axis in group.axes)


def _draw(axes: "Axes", title: str, groups: Mapping[str, Group], points: Sequence[_Point], plane: _Plane) -> None:
    stairs = np.array(_stairs(points, plane))
    axes.step(*stairs.T, where="post" if plane.rising else "pre", color="0.75", linewidth=1, zorder=1)
    for number, point in enumerate(points):
        style: Mapping[str, Any] = {**look(number), "linestyle": "none"}
        x, y = point.leakage[0], point.quality[0]
        bars: dict[str, Any] = {"xerr": _arms(point.leakage), "yerr": _arms(point.quality)}
        axes.errorbar([x], [y], **bars, elinewidth=0.8, markersize=6, label=plain(point.name), **style)
    baseline = plane.leakage.baseline
    if baseline and (gray := [value for group in groups.values() if (value := _of(group, baseline))]):
        place = float(np.mean(gray))
        axes.axvline(place, color="0.6", linestyle=":", linewidth=1, label="a gray image", zorder=0)
        if len(points) <= _MOST_LABELS:
            above: dict[str, Any] = {
                "xycoords": axes.get_xaxis_transform(),
                "textcoords": "offset points",
                "fontsize": 7,
                "color": "0.35",
            }
            axes.annotate("a gray image", (place, 0), xytext=(3, 3), va="bottom", rotation=90, **above)
    direction = "right" if plane.rising else "left"
    axes.set_xlabel(f"{plane.leakage.name.upper()} of reconstructions (more leaks to the {direction})", fontsize=9)
    axes.set_ylabel(plain(plane.quality.title), fontsize=9)
    axes.set_title(plain(title), fontsize=9)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.margins(0.12)


def _stairs(points: Sequence[_Point], plane: _Plane) -> list[tuple[float, float]]:
    """The places of the points that no other beats, from left to right."""
    places = [(point.leakage[0], point.quality[0]) for point in points]
    return [places[number] for number in front(places, rising=plane.rising, upward=plane.quality.better != "lower")]


def _steps(stairs: Sequence[tuple[float, float]], plane: _Plane) -> list[Box]:
    """What the line through the stairs covers."""
    boxes = []
    for (x, y), (right, above) in pairwise(stairs):
        corner = (right, y) if plane.rising else (x, above)
        for (a, b), (c, d) in (((x, y), corner), (corner, (right, above))):
            boxes.append(Box(min(a, c), min(b, d), max(a, c), max(b, d)))
    return boxes


def _arms(spread: _Spread) -> list[list[float]]:
    """Lengths of an interval's arms; a mean may lie beyond the end of an interval for the median."""
    mean, low, high = spread
    return [[max(0.0, mean - low)], [max(0.0, high - mean)]]


def _point(name: str, group: Group, plane: _Plane) -> _Point:
    for metric in of_source("privacy"):
        if (spent := _of(group, metric)) is not None:
            name += f"\nepsilon {spent:.3g} ({described(metric).protects})"

    def measured(metric: Metric) -> _Spread:
        values = replace(group, metric=metric.name)
        assert values.mean is not None
        low, high = values.interval or (values.mean, values.mean)
        return metric.factor * values.mean, metric.factor * low, metric.factor * high

    return _Point(name, measured(plane.leakage), measured(plane.quality))


def _of(group: Group, metric: str) -> float | None:
    return replace(group, metric=metric).mean
