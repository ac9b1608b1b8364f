"""The picture of an audit by canaries: what those that were in scored, and those that were out."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsec.report.figures import plain
from fedsec.report.summary import Record, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 12
_COLUMNS = 4
_BINS = 25
_IN, _OUT = "#D55E00", "#0072B2"


def canary_audit(record: Record) -> Mapping[str, Any] | None:
    """What an audit by canaries found in a cell; None where there was none."""
    return (record.get("audit") or {}).get("canaries")


def telling_score(audit: Mapping[str, Any]) -> str | None:
    """The kind of score that shows most; None where no score bounds anything.

    Args:
        audit: see `canary_audit`.
    """
    bounds = audit["bounds"]
    return max(bounds, key=lambda score: bounds[score]["approximate_dp"]["epsilon_lower"], default=None)


def canary_figure(records: Sequence[Record]) -> "Figure | None":
    """A panel for each audited cell, the first twelve: scores of canaries that were in, and of those that were out.

    Args:
        records: of finished cells.
    """
    from matplotlib.figure import Figure

    shown = [record for record in records if (audit := canary_audit(record)) and telling_score(audit)][:_PANELS]
    if not shown:
        return None
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.5 * columns + 0.3, 1.6 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for record, axes in zip(shown, panels, strict=False):
        audit = canary_audit(record)
        assert audit is not None
        _draw(axes, audit, textwrap.shorten(plain(describe(record["cell"])), 60))
    for axes in panels[len(shown) :]:
        axes.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _draw(axes: "Axes", audit: Mapping[str, Any], title: str) -> None:
    score = telling_score(audit)
    assert score is not None
    values, included = np.array(audit["scores"][score], dtype=float), np.array(audit["included"])
    # A few far away would squeeze all others together: they stand in the outermost bins.
    low, high = np.quantile(values, (0.01, 0.99))
    edges = np.linspace(low, high if high > low else low + 1, _BINS)
    for inside, color, label in ((True, _IN, "included"), (False, _OUT, "not included")):
        some = np.clip(values[included == inside], edges[0], edges[-1])
        axes.hist(some, edges.tolist(), color=color, alpha=0.45, label=label)
    axes.set_title("\n".join(textwrap.wrap(title, 34)), fontsize=8)
    axes.set_xlabel(f"score: {score.replace('_', ' ')}", fontsize=7)
    axes.set_yticks([])
    axes.tick_params(labelsize=6)
