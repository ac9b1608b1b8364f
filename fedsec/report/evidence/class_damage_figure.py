"""The picture of classes under attack: a row for each defense, a column for each class."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedsec.report.evidence.class_damage import ClassDamage
from fedsec.report.figures import ALWAYS_BLACK, ALWAYS_WHITE, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_damage_figure"]

_CELL = (0.62, 0.42)


def class_damage_figure(damages: Sequence[ClassDamage], places: Sequence[int], names: Sequence[str]) -> "Figure":
    """Recall of classes under each defense's worst attack, and below it what the attack cost, in points.

    Args:
        damages: the rows.
        places: of the classes that are shown.
        names: what these are called.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    recalls = [[damage.recalls[place] for place in places] for damage in damages]
    table = np.array([[math.nan if recall is None else 100 * recall for recall in row] for row in recalls])
    labels = ["\n".join(textwrap.wrap(f"{damage.defense}: {damage.where}".lstrip(": "), 40)) for damage in damages]
    longest = max(len(line) for label in labels for line in label.split("\n")) * 0.075
    size = (len(places) * _CELL[0] + longest + 1.2, len(damages) * _CELL[1] + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(table, cmap=colormaps["cividis"].with_extremes(bad="0.9"), vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(places)), [plain(textwrap.shorten(name, 14)) for name in names], fontsize=8)
    if max(map(len, names)) > 6:
        axes.tick_params(axis="x", rotation=40)
    axes.set_yticks(range(len(damages)), [plain(label) for label in labels], fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("class", fontsize=8)
    for row, damage in enumerate(damages):
        for column, place in enumerate(places):
            recall = damage.recalls[place]
            if recall is None:
                continue
            known = damage.clean is not None and damage.clean[place] is not None
            change = f"\n{_points(-damage.loss(place))}" if known else ""
            color = ALWAYS_BLACK if recall > 0.5 else ALWAYS_WHITE
            axes.text(column, row, f"{100 * recall:.0f}{change}", ha="center", va="center", color=color, fontsize=7)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("recall (%)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _points(change: float) -> str:
    """A change of a share in whole points, as in `-31`; nothing lost is `0`."""
    points = round(100 * change)
    return f"{points:+d}" if points else "0"
