"""The battery: cells of all probes run once each, as one scenario, until they are done or time is up."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from fedsec.assessment.budget import clock
from fedsec.assessment.cells import scenario_of
from fedsec.assessment.probes.probe import CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.timed_executor import TimedExecutor
from fedsec.report.console import QUIET_SECONDS, say
from fedsec.report.progress_lines import Line, progress_lines
from fedsec.runs.executor import Executor
from fedsec.runs.local_pool import LocalPool
from fedsec.runs.runner import available_cores, run
from fedsec.scenario import load_scenario

__all__ = ["CELLS", "Battery", "distinct", "run_battery"]

CELLS = "cells"
"""Of an audit's folder, the run that all its numbers come from."""
_DESCRIPTION = "All cells of an audit; audit.html beside this folder says what they came to."


@dataclass(frozen=True)
class Battery:
    """What was run.

    Args:
        root: the run's folder.
        records: by the cell's id.
        ids: of each cell's sections, as JSON.
        interrupted: whether somebody stopped it.
    """

    root: Path
    records: Mapping[str, Mapping[str, Any]] = field(repr=False)
    ids: Mapping[str, str] = field(repr=False)
    interrupted: bool = False

    def knows(self, cell: ProbeCell) -> bool:
        """Whether a cell was among those to be run."""
        return _key(cell.sections) in self.ids

    def outcomes(self, cells: Sequence[ProbeCell]) -> CellOutcomes:
        """What came of some cells."""
        finished, missing = [], {}
        for cell in cells:
            cell_id = self.ids[_key(cell.sections)]
            record = self.records.get(cell_id, {"status": "pending", "error": None})
            if record["status"] == "done":
                finished.append(CellOutcome(cell, record, self.root / cell_id))
            else:
                missing[(*cell.key, str(cell.seed))] = record["error"] or "there was no time for it"
        return CellOutcomes(finished, missing)


def distinct(cells: Sequence[ProbeCell]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Sections of cells, each experiment once, in their order; and the id of every one's sections, as JSON."""
    ids: dict[str, str] = {}
    once: dict[str, dict[str, Any]] = {}
    for cell in cells:
        key = _key(cell.sections)
        if key not in ids:
            ids[key] = load_scenario(scenario_of(CELLS, "", [cell.sections])).cells()[0].id
            once.setdefault(ids[key], cell.sections)
    return list(once.values()), ids


def run_battery(
    cells: Sequence[ProbeCell],
    out: Path,
    *,
    until: float,
    console: Console,
    workers: int | None = None,
    device: str = "auto",
    executor: Executor | None = None,
) -> Battery:
    """Run cells until they are done or time is up; what an earlier audit finished in the folder is taken.

    Args:
        cells: the most valuable first.
        out: the audit's folder.
        until: when to stop, on `time.monotonic`'s clock.
        console: where to show how far it is.
        workers: processes; by default one a core.
        device: where to compute.
        executor: who runs the cells; by default processes on this machine.
    """
    sections, ids = distinct(cells)
    scenario = scenario_of(CELLS, _DESCRIPTION, sections)
    cores = available_cores()
    count = min(workers or cores, max(len(sections), cores))
    with _Progress(console, until) as progress:
        pool = executor or LocalPool(count, max(1, cores // len(sections)))
        deadline = TimedExecutor(pool, until, progress.told)
        result = run(scenario, out=out, executor=deadline, device=device, console=Console(quiet=True))
    records = {record["id"]: record for record in result.records}
    return Battery(result.root, records, ids, result.interrupted and not deadline.passed)


class _Progress:
    """How many cells are done: a line that changes on a terminal, now and then a new one elsewhere.

    Args:
        console: where.
        until: when time is up.
    """

    def __init__(self, console: Console, until: float) -> None:
        self.console, self.until, self.lines = console, until, progress_lines(console)
        self.said = time.monotonic()

    def __enter__(self) -> Self:
        if self.lines is not None:
            self.lines.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.lines is not None:
            self.lines.stop()

    def told(self, done: int, total: int) -> None:
        """Hear that a cell has ended."""
        now = time.monotonic()
        parts = (f"cell {done} of {total}", f"at most {clock(max(0.0, self.until - now))} left")
        if self.lines is not None:
            self.lines.show([Line(parts, done, total)])
        elif now - self.said > QUIET_SECONDS:
            say(self.console, ", ".join(parts))
            self.said = now


def _key(sections: Mapping[str, Any]) -> str:
    return json.dumps(sections, sort_keys=True)
