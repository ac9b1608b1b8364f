"""The page of a run: which sections it has, in which order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fedsec.errors import count_of
from fedsec.report.best_inversions import trained_once
from fedsec.report.page.parts import PageSection
from fedsec.report.page.render import Page
from fedsec.report.page.run_summary import RunSummary
from fedsec.report.page.sections.answer import answer
from fedsec.report.page.sections.backdoors import backdoors
from fedsec.report.page.sections.canaries import canaries
from fedsec.report.page.sections.client_tests import client_tests
from fedsec.report.page.sections.clients import clients
from fedsec.report.page.sections.costs import costs
from fedsec.report.page.sections.curves import curves
from fedsec.report.page.sections.damage import damage
from fedsec.report.page.sections.differences import differences
from fedsec.report.page.sections.environment import environment
from fedsec.report.page.sections.measurements import measurements
from fedsec.report.page.sections.membership import membership
from fedsec.report.page.sections.partitions import partitions
from fedsec.report.page.sections.problems import problems
from fedsec.report.page.sections.question import question
from fedsec.report.page.sections.reconstructions import reconstructions
from fedsec.report.page.sections.reproduce import reproduce
from fedsec.report.page.sections.tradeoff import tradeoff
from fedsec.report.page.sections.worst_case import worst_case
from fedsec.report.summary import Record

__all__ = ["SECTIONS", "RunView", "run_page"]


@dataclass(frozen=True)
class RunView:
    """All that a page tells of a run.

    Args:
        root: the run's folder: each cell's rounds, partition and pictures lie in `root/<cell id>/`.
        records: the cells' records, as `result.json` has them, in the matrix's order; of cells that have none, what
            `results.json` says.
        summary: what was asked, and how it ended.
        damaged: what is wrong with finished cells' files, by the cell's id.
    """

    root: Path
    records: Sequence[Record]
    summary: RunSummary
    damaged: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def done(self) -> list[Record]:
        """The records of finished cells."""
        return [record for record in self.records if record["status"] == "done"]

    @cached_property
    def trained(self) -> list[Record]:
        """One record for each model that was trained, however many inversions looked at it."""
        return list(trained_once(self.records))


SECTIONS: tuple[Callable[[RunView], PageSection | None], ...] = (
    answer,
    problems,
    question,
    curves,
    worst_case,
    clients,
    damage,
    client_tests,
    backdoors,
    membership,
    canaries,
    tradeoff,
    reconstructions,
    measurements,
    differences,
    partitions,
    costs,
    environment,
    reproduce,
)
"""From top to bottom; each is None where the run has nothing of it."""


def run_page(view: RunView) -> Page:
    """The page of a run."""
    sections = [section for of_run in SECTIONS if (section := of_run(view)) is not None]
    subtitle = view.summary.question or f"{count_of(len(view.records), 'cell')}"
    return Page(view.summary.name, subtitle, sections)
