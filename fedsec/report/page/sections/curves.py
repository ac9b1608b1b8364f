"""What models are trained for, over the rounds."""

from typing import TYPE_CHECKING

from fedsec.report.figures import curve_figures
from fedsec.report.page.parts import Drawing, PageSection
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import primary

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["curves"]


def curves(view: "RunView") -> PageSection | None:
    """The main metric by round."""
    metric = primary(view.records)
    drawings = [
        Drawing(inline_svg(figure, f"curves-{number}"), f"{metric.title} by round, a line for each defense")
        for number, figure in enumerate(curve_figures(view.root, view.trained), start=1)
    ]
    return PageSection("curves", f"{metric.title} by round", drawings) if drawings else None
