"""Accuracy against what leaks."""

from typing import TYPE_CHECKING

from fedsec.report.page.parts import Drawing, PageSection, Paragraph
from fedsec.report.page.svg import inline_svg
from fedsec.report.tradeoff_figure import tradeoff_figures

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["tradeoff"]


def tradeoff(view: "RunView") -> PageSection | None:
    """The picture of the trade; None where nothing was reconstructed, or there is nothing to compare."""
    drawings = [
        Drawing(
            inline_svg(figure, f"tradeoff-{number}"),
            "A point for each defense: how good the model is against how close reconstructions come; the numbers are "
            "in the tables",
            "The line joins defenses that no other beats in both; bars are what the seeds span.",
        )
        for number, figure in enumerate(tradeoff_figures(view.done), start=1)
    ]
    if not drawings:
        return None
    text = "What each defense costs, and what a curious server still sees."
    return PageSection("tradeoff", "Accuracy against leakage", [Paragraph(text), *drawings])
