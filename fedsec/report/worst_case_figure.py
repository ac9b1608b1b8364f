"""The picture of worst cases: a heatmap of defenses against numbers of Byzantine clients, the attack in each cell."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsec.metrics.metric import Metric
from fedsec.report.figures import ALWAYS_BLACK, ALWAYS_WHITE, plain, save_all
from fedsec.report.summary import Record
from fedsec.report.worst_case import NOT_RUN, WorstCaseEntry, metric_of, worst_cases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 6
_CELL = (1.25, 0.42)
"""Width and height of a cell of the heatmap, in inches."""


def draw_worst_cases(root: Path, records: Sequence[Record], into: Path | None = None) -> list[Path]:
    """Draw `worst_case_figures` into `worst_case.png`, `worst_case-2.png`, ...

    Args:
        root: the run's folder.
        records: the cells' records.
        into: where to put the picture; into `root` by default.

    Returns:
        The files; none where there are no worst cases.
    """
    return save_all(worst_case_figures(records), into or root, "worst_case")


def worst_case_figures(records: Sequence[Record]) -> "list[Figure]":
    """What the worst attack leaves of each defense, a panel for each setting.

    Args:
        records: the cells' records.

    Returns:
        A figure for each six settings; none where there are no worst cases.
    """
    cases, metric = worst_cases(records), metric_of(records)
    if not any(case.value is not None for case in cases):
        return []
    settings = list(dict.fromkeys(tuple(case.setting.items()) for case in cases))
    pages = [settings[start : start + _PANELS] for start in range(0, len(settings), _PANELS)]
    return [_page(page, cases, metric) for page in pages]


def _page(settings: Sequence[tuple[tuple[str, str], ...]], cases: Sequence[WorstCaseEntry], metric: Metric) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    defenses = list(dict.fromkeys(case.defense for case in cases))
    numbers = sorted({case.num_byzantine for case in cases})
    longest = max(map(len, defenses)) * 0.08
    width = len(settings) * (len(numbers) * _CELL[0] + 0.3) + longest + 1.0
    figure = Figure(figsize=(width, max(2.4, len(defenses) * _CELL[1] + 1.1)), layout="constrained")
    grid = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    values = [metric.factor * case.value for case in cases if case.value is not None]
    # A fraction's colors mean the same in every picture; others fill what occurs.
    low, high = (0.0, 100.0) if metric.is_fraction else (min(values), max(values) or 1.0)
    image, colors = None, colormaps["cividis"].with_extremes(bad="0.9")
    for setting, axes in zip(settings, grid, strict=True):
        own = {(case.defense, case.num_byzantine): case for case in cases if tuple(case.setting.items()) == setting}
        table = np.array([[_value(own.get((name, number)), metric) for number in numbers] for name in defenses])
        image = axes.imshow(table, cmap=colors, vmin=low, vmax=high, aspect="auto")
        axes.set_xticks(range(len(numbers)), list(map(str, numbers)), fontsize=9)
        axes.set_yticks(range(len(defenses)), [plain(name) for name in defenses], fontsize=9)
        axes.tick_params(length=0)
        axes.set_xlabel("Byzantine clients", fontsize=9)
        axes.set_title(
            "\n".join(textwrap.wrap(plain(", ".join(f"{axis}={text}" for axis, text in setting)), 34)), fontsize=9
        )
        for place, name in enumerate(defenses):
            for column, number in enumerate(numbers):
                _write(axes, column, place, own.get((name, number)), metric, (low + high) / 2)
    assert image is not None
    bar = figure.colorbar(image, ax=list(grid), fraction=0.05, pad=0.02)
    bar.set_label(plain(metric.title), fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def _value(case: WorstCaseEntry | None, metric: Metric) -> float:
    return math.nan if case is None or case.value is None else metric.factor * case.value


def _write(axes: "Axes", column: int, place: int, case: WorstCaseEntry | None, metric: Metric, middle: float) -> None:
    """The number, and the attack below it, dark on light and light on dark."""
    if case is None:
        return
    text = NOT_RUN if case.refused else ""
    if case.value is not None:
        text = metric.write(case.value) + case.doubt + (f"\n{case.attack}" if case.attack else "")
    value = _value(case, metric)
    color = ALWAYS_BLACK if math.isnan(value) or value > middle else ALWAYS_WHITE
    axes.text(column, place, plain(text), ha="center", va="center", color=color, fontsize=7, linespacing=1.1)
