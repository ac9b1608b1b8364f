"""The picture of what single clients have: a histogram of honest clients for each setting, and the worst tenth."""

import textwrap
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from fedsec.metrics.fairness import over_clients
from fedsec.metrics.metric import Metric
from fedsec.report.figures import plain
from fedsec.report.summary import Group, Record, describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["client_tests_figure", "values_of"]

_ROW, _BARS = 0.5, 20


def values_of(record: Record) -> list[float]:
    """What a cell's clients have on test examples of their own; nothing where nobody was tested, or it diverged."""
    values = (record.get("client_tests") or {}).values()
    return [] if None in values else list(values)


def client_tests_figure(groups: Sequence[Group], metric: Metric) -> "Figure":
    """Histograms of clients, one above the other.

    Args:
        groups: settings of which clients were tested; the clients of all their seeds are drawn together.
        metric: what clients have.
    """
    from matplotlib.figure import Figure

    rows = [[metric.factor * value for record in group.records for value in values_of(record)] for group in groups]
    low = 0.0 if metric.is_fraction else min(map(min, rows))
    high = 100.0 if metric.is_fraction else max(map(max, rows))
    edges = np.linspace(low, high if high > low else low + 1, _BARS + 1)
    labels = ["\n".join(textwrap.wrap(describe(group.axes), 40)) for group in groups]
    longest = max(len(line) for label in labels for line in label.split("\n")) * 0.075
    figure = Figure(figsize=(4.6 + longest, len(groups) * _ROW + 0.9), layout="constrained")
    axes = figure.subplots()
    for place, (values, group) in enumerate(zip(rows, groups, strict=True)):
        bottom = len(groups) - 1 - place
        heights = np.histogram(values, edges)[0] / len(values)
        axes.bar(edges[:-1], 0.8 * heights / heights.max(), np.diff(edges), bottom, align="edge", color="#56B4E9")
        worst = [over_clients(values_of(record), metric) for record in group.records if values_of(record)]
        tenth = fmean(metric.factor * (one[metric.over_clients[1].name] or 0.0) for one in worst)
        for value, color, dashes in ((fmean(values), "#0072B2", "-"), (tenth, "#D55E00", (0, (2, 1)))):
            axes.plot([value, value], [bottom, bottom + 0.85], color=color, linestyle=dashes, linewidth=1.6)
    axes.set_yticks(
        [len(groups) - 1 - place + 0.4 for place in range(len(groups))], list(map(plain, labels)), fontsize=8
    )
    axes.set_xlabel(f"{metric.title} of an honest client on examples of its own", fontsize=8)
    axes.tick_params(labelsize=7, length=0, axis="y")
    axes.tick_params(labelsize=7, axis="x")
    axes.set_ylim(-0.1, len(groups))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure
