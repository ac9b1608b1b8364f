"""The picture of backdoors: how often they work, beside what the model is for, round by round."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedsec.metrics.durability import SUCCESS
from fedsec.metrics.metric import Metric
from fedsec.report.figures import history, look, plain
from fedsec.report.intervals import interval
from fedsec.report.summary import ATTACK, DEFENSE, Group, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BackdoorPanel", "backdoor_figure", "backdoor_panels"]

_ACROSS = 3

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Rounds, and values of `[seeds, rounds]` in percent."""


@dataclass(frozen=True, eq=False)
class BackdoorPanel:
    """One attack in one setting.

    Args:
        title: attack and setting.
        success: of the backdoor, by defense.
        quality: of the model, by defense.
        until: the last round with attackers; None where they stay.
    """

    title: str
    success: Mapping[str, Curve]
    quality: Mapping[str, Curve]
    until: int | None


def backdoor_panels(root: Path, groups: Sequence[Group], metric: Metric) -> list[BackdoorPanel]:
    """A panel for each attack and setting, from the rounds of its cells.

    Args:
        root: the run's folder.
        groups: cells with an attack that brings a test of its own.
        metric: what models are trained for; a fraction.
    """
    by_title: dict[str, list[Group]] = {}
    for group in groups:
        axes = {axis: text for axis, text in group.axes.items() if axis != DEFENSE}
        by_title.setdefault(describe(axes), []).append(group)
    panels = []
    for title, alike in by_title.items():
        success = {group.axes.get(DEFENSE, ""): _curve(root, group, SUCCESS) for group in alike}
        quality = {group.axes.get(DEFENSE, ""): _curve(root, group, metric.name) for group in alike}
        known = {name: curve for name, curve in success.items() if curve is not None}
        if known:
            attack = (alike[0].records[0].get("config") or {}).get(ATTACK) or {}
            good = {name: curve for name, curve in quality.items() if curve is not None and metric.is_fraction}
            panels.append(BackdoorPanel(title, known, good, attack.get("until")))
    return panels


def backdoor_figure(panels: Sequence[BackdoorPanel], quality: str) -> "Figure":
    """Success as lines with bands over seeds, quality as dots of the same color; where attackers leave, a line.

    Args:
        panels: to be drawn.
        quality: what the dots are called.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    names = list(dict.fromkeys(name for panel in panels for name in panel.success))
    looks = {name: look(index) for index, name in enumerate(names)}
    figure = Figure(figsize=(max(3.4 * across, 6.0), 2.7 * down + 0.7), layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for position, axes in enumerate(grid.flat):
        axes.set_visible(position < len(panels))
    for number, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False)):
        _draw(axes, panel, looks)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
        if number % across == 0:
            axes.set_ylabel("%", fontsize=9)
        if number + across >= len(panels):
            axes.set_xlabel("round", fontsize=9)
    handles = [
        *(
            Line2D([], [], markersize=4.5, label=" " + plain(name or "success"), **style)
            for name, style in looks.items()
        ),
        Line2D([], [], color="0.5", label="success of the backdoor"),
        Line2D([], [], color="0.5", linestyle=":", label=quality),
    ]
    columns = 4 if across > 2 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _draw(axes: "Axes", panel: BackdoorPanel, looks: Mapping[str, dict[str, Any]]) -> None:
    for name, (rounds, values) in panel.success.items():
        style = looks[name]
        spacing = max(1, len(rounds) // 6)
        axes.plot(rounds, values.mean(axis=0), markersize=3.5, markevery=spacing, linewidth=1.5, **style)
        if len(values) > 1:
            axes.fill_between(rounds, *interval(values), color=style["color"], alpha=0.15, linewidth=0)
    for name, (rounds, values) in panel.quality.items():
        axes.plot(rounds, values.mean(axis=0), color=looks[name]["color"], linestyle=":", linewidth=1.1, alpha=0.8)
    if panel.until is not None:
        axes.axvline(panel.until, color="0.4", linestyle="--", linewidth=0.9)
        place: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
        axes.annotate(
            "attackers leave", (panel.until, 0.5), xytext=(2, 0), rotation=90, va="center", fontsize=6, **place
        )
    axes.set_ylim(-3, 103)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.set_title(plain("\n".join(textwrap.wrap(panel.title, 40))), fontsize=9)


def _curve(root: Path, group: Group, metric: str) -> Curve | None:
    """The rounds that every seed was measured in."""
    logs = [log for record in group.records if (log := history(root, record["id"], metric))]
    rounds = sorted(set.intersection(*map(set, logs))) if logs else []
    if not rounds:
        return None
    return np.array(rounds), 100 * np.array([[log[number] for number in rounds] for log in logs])
