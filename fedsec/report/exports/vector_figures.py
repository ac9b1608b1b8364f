"""A run's figures as vectors for papers: PDF with whole fonts, SVG; the same bytes each time."""

import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsec.report.best_inversions import trained_once
from fedsec.report.figures import curve_figures
from fedsec.report.partition_figure import partition_figures
from fedsec.report.summary import Record, primary
from fedsec.report.tradeoff_figure import tradeoff_figures
from fedsec.report.worst_case_figure import worst_case_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "drawn", "figures_of"]

FORMATS = ("pdf", "svg")
# Type 42 are TrueType fonts, which publishers ask for; letters of an SVG are outlines, the same wherever it opens.
_SETTINGS: Any = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "fedsec"}


def figures_of(root: Path, records: Sequence[Record]) -> "Iterator[tuple[str, Figure]]":
    """The figures of a run, by the name that their file has, as in `accuracy`, `accuracy-2`.

    Args:
        root: the run's folder.
        records: the cells' records.
    """
    done = [record for record in records if record["status"] == "done"]
    if not done:
        return
    figures = {
        primary(done).name: curve_figures(root, trained_once(done)),
        "worst_case": worst_case_figures(trained_once(records)),
        "tradeoff": tradeoff_figures(done),
        "partition": partition_figures(root, done),
    }
    for name, several in figures.items():
        for number, figure in enumerate(several, start=1):
            yield (name if number == 1 else f"{name}-{number}"), figure


def drawn(figure: "Figure", kind: str) -> bytes:
    """A figure as the content of a file, without the day it was made.

    Args:
        figure: of matplotlib.
        kind: of `FORMATS`.
    """
    from matplotlib import rc_context

    file = io.BytesIO()
    metadata = {"CreationDate": None} if kind == "pdf" else {"Date": None}
    with warnings.catch_warnings(), rc_context(_SETTINGS):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in a script the font lacks
        figure.savefig(file, format=kind, metadata=metadata)
    return file.getvalue()
