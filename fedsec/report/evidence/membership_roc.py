"""The picture of membership inferences: ROC curves on logarithmic axes, where false accusations are rare."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsec.report.figures import plain, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURE", "roc_figure", "write_roc"]

PICTURE = "audit/membership_roc.png"
"""Where it lies in a cell's folder."""
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", ":", "-.")


def roc_figure(inferences: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """ROC curves of a cell's inferences.

    Args:
        inferences: name -> what `result.json` says of it: `roc`, a list of [FPR, TPR], and `auc`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    smallest = min(_smallest(one) for one in inferences.values())
    axes.plot([smallest, 1], [smallest, 1], color="0.6", linewidth=1, label="chance")
    for number, (name, one) in enumerate(inferences.items()):
        fpr, tpr = zip(*one["roc"], strict=True)
        axes.plot(
            [max(value, smallest) for value in fpr],
            [max(value, smallest) for value in tpr],
            color=_COLORS[number % len(_COLORS)],
            linestyle=_DASHES[number // len(_COLORS) % len(_DASHES)],
            linewidth=1.4,
            label=plain(f"{name} (AUC {one['auc']['value']:.2f})"),
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(smallest, 1)
    axes.set_ylim(smallest, 1.05)
    axes.set_xlabel("false positive rate: non-members called members", fontsize=8)
    axes.set_ylabel("true positive rate: members found", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(fontsize=7, loc="lower right")
    return figure


def write_roc(inferences: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Draw the picture into a cell's folder."""
    save(roc_figure(inferences), folder / PICTURE)


def _smallest(one: Mapping[str, Any]) -> float:
    """The smallest rate that is shown: what one non-member of all is, or less."""
    auc = one["auc"]
    return min(0.5 / max(int(auc["nonmembers"]), int(auc["members"])), 0.01)
