"""The picture of the trade: what each defense costs in accuracy, and what a curious server still sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsec.report.best_inversions import INVERSION, strongest
from fedsec.report.figures import look, plain, save
from fedsec.report.missing_values import UNITS, inverted
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = 12
_LINE = 0.2
"""The height of a line of the legend, in inches."""


@dataclass(frozen=True)
class _Measure:
    """A way to say how much leaks: its name, its baseline, and whether more of it is more leakage."""

    metric: str
    title: str
    baseline: str | None
    rising: bool


_LPIPS = _Measure("lpips", "LPIPS of reconstructions (more leaks to the left)", None, False)
_SSIM = _Measure("ssim", "SSIM of reconstructions (more leaks to the right)", "ssim_gray", True)


@dataclass(frozen=True)
class _Point:
    """One defense: its name, leakage and accuracy (in percent), with half widths of their intervals over seeds."""

    name: str
    leakage: tuple[float, float]
    accuracy: tuple[float, float]


def draw_tradeoff(root: Path, records: Sequence[Record]) -> list[Path]:
    """Draw accuracy against leakage into `tradeoff.png`, a point for each defense with its epsilon beside the name.

    Leakage is LPIPS where all cells have it, else SSIM, whose dotted line is what a gray image scores. Where several
    attackers were tried on the same messages, each defense is judged by the strongest. A panel for each setting and
    attack; settings of one defense each, which make no panel, stand in one together. The staircase joins defenses that
    no other beats in both.

    Args:
        root: the run's folder.
        records: the cells' records.

    Returns:
        The file written; none if nothing was reconstructed, or there is nothing to compare.
    """
    from matplotlib.figure import Figure

    done = [record for record in records if record.get("status") == "done" and inverted(record)]
    best = strongest(records)
    summary = summarize([record for record in best.records if record.get("status") == "done"] or done)
    measured = [group for group in summary.groups if _of(group, "ssim") is not None]
    measure = _LPIPS if measured and all(_of(group, "lpips") is not None for group in measured) else _SSIM
    panels = _panels(measured, best.axes)
    if not panels:
        return []
    shown = list(panels.items())[:_PANELS]
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    lines = [sum(_point(*each, measure).name.count("\n") + 1 for each in groups.items()) for _, groups in shown]
    height = max(4.6, _LINE * (max(lines) + 4))  # the legend must not be cut off
    figure = Figure(figsize=(8.0 * across, height * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for position, axes in enumerate(grid.flat):
        axes.set_visible(position < len(shown))
    for (title, groups), axes in zip(shown, grid.flat, strict=False):
        _draw(axes, title, groups, measure)
    return [save(figure, root / "tradeoff.png")]


def front(points: Sequence[tuple[float, float]], *, rising: bool) -> list[int]:
    """Places of the points (leakage, accuracy) that none beats: leaks no more, is no worse, and better in one.

    Args:
        points: of which more accuracy is better.
        rising: whether more of the first number is more leakage.
    """
    sign = 1 if rising else -1
    best = []
    for place, (leakage, accuracy) in enumerate(points):
        beaten = any(
            sign * other <= sign * leakage and more >= accuracy and (other, more) != (leakage, accuracy)
            for other, more in points
        )
        if not beaten:
            best.append(place)
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
        for group in members:
            name = group.axes.get(DEFENSE, "")
            if inner:
                name += f" ({', '.join(group.axes[axis] for axis in inner if axis in group.axes)})"
            if rivals:
                name += f"\nby {', '.join(group.axes[axis] for axis in rivals if axis in group.axes)}"
            panels.setdefault(_named([axis for axis in axes if axis not in inner], group), {})[name] = group
    best = ["the best attacker of each defense"] if rivals else []
    return {", ".join(filter(None, [title, *best])): points for title, points in panels.items() if len(points) > 1}


def _named(axes: Sequence[str], group: Group) -> str:
    return ", ".join(f"{axis}={group.axes[axis]}" for axis in axes if axis in group.axes)


def _draw(axes: "Axes", title: str, groups: Mapping[str, Group], measure: _Measure) -> None:
    points = [_point(name, group, measure) for name, group in groups.items()]
    places = [(point.leakage[0], point.accuracy[0]) for point in points]
    best = front(places, rising=measure.rising)
    stairs = np.array([places[place] for place in best])
    axes.step(*stairs.T, where="post" if measure.rising else "pre", color="0.75", linewidth=1, zorder=1)
    for number, point in enumerate(points):
        style: Mapping[str, Any] = {**look(number), "linestyle": "none"}
        (x, dx), (y, dy) = point.leakage, point.accuracy
        bars: dict[str, Any] = {"xerr": _within(x, dx, 0.0, 1.0), "yerr": _within(y, dy, 0.0, 100.0)}
        axes.errorbar([x], [y], **bars, elinewidth=0.8, markersize=6, label=plain(point.name), **style)
    if measure.baseline and (gray := [found for group in groups.values() if (found := _of(group, measure.baseline))]):
        axes.axvline(float(np.mean(gray)), color="0.6", linestyle=":", linewidth=1, label="a gray image", zorder=0)
    axes.set_xlabel(measure.title, fontsize=9)
    axes.set_ylabel("accuracy (%)", fontsize=9)
    axes.set_title(plain(title), fontsize=9)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.margins(0.08)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)


def _within(mean: float, half_width: float, low: float, high: float) -> list[list[float]]:
    """Lengths of an interval's arms, cut where no value can lie."""
    return [[min(half_width, max(0.0, mean - low))], [min(half_width, max(0.0, high - mean))]]


def _point(name: str, group: Group, measure: _Measure) -> _Point:
    for metric, unit in UNITS.items():
        if (spent := _of(group, metric)) is not None:
            name += f"\nepsilon {spent:.3g} ({unit})"
    leakage, accuracy = (replace(group, metric=metric) for metric in (measure.metric, "accuracy"))
    assert leakage.mean is not None
    assert accuracy.mean is not None
    return _Point(
        name,
        (leakage.mean, leakage.half_width or 0.0),
        (100 * accuracy.mean, 100 * (accuracy.half_width or 0.0)),
    )


def _of(group: Group, metric: str) -> float | None:
    return replace(group, metric=metric).mean
