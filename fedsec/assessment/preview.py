"""What an audit would run, before it does: `fedsec audit --list`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from fedsec.assessment.auditor import announced, chosen, planned
from fedsec.assessment.battery import distinct
from fedsec.assessment.budget import seconds_of
from fedsec.assessment.deployment import deployment
from fedsec.assessment.settings import sections_of
from fedsec.errors import count_of
from fedsec.report.console import say

__all__ = ["show_plan"]


def show_plan(
    console: Console,
    settings: Mapping[str, Any],
    overrides: Sequence[str],
    budget: str,
    names: Sequence[str] | None,
    workers: int | None,
    device: str,
) -> None:
    """Print which probes fit into a budget, and what the others lack.

    Args:
        console: where.
        settings: options of `fedsec.audit` that describe the federation.
        overrides: further settings of a scenario.
        budget: as it was written.
        names: of probes; None for all.
        workers: processes.
        device: where to compute.
    """
    probes = chosen(names)
    deployed = deployment(sections_of(**settings), overrides)
    schedule, obstacles = planned(
        deployed, probes, seconds_of(budget), root=None, workers=workers, device=device, console=console
    )
    running = [probe for name in schedule.probes for probe in probes if probe.name == name]
    for probe in running:
        count = len(distinct(probe.cells(deployed, schedule.effort))[0])
        say(console, f"{probe.name}: {probe.title}: {count_of(count, 'cell')}, some shared with others")
    for name, why in obstacles.items():
        say(console, f"{name}: cannot be tried: {why}")
    for line in announced(schedule, running, deployed):
        say(console, line)
