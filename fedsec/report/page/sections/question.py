"""What was asked: the scenario, word for word, and the command that asks it again."""

from typing import TYPE_CHECKING

from fedsec.report.page.parts import Code, Folded, PageSection, Part

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["question"]


def question(view: "RunView") -> PageSection | None:
    """What was asked."""
    summary = view.summary
    if not summary.scenario:
        return None
    parts: list[Part] = [
        Code(summary.command, "The command that reproduces this"),
        Folded("The scenario as it was written", [Code(summary.scenario)]),
    ]
    return PageSection("question", "What was asked", parts)
