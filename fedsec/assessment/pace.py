"""How long cells take here: a short measurement, and estimates from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedsec.assessment.cells import scenario_of
from fedsec.assessment.deployment import Deployment
from fedsec.assessment.probes.probe import ProbeCell
from fedsec.errors import FedsecError
from fedsec.report.evidence.round_lines import round_lines
from fedsec.runs.executor import InProcess
from fedsec.runs.runner import available_cores, run
from fedsec.scenario import Scenario, load_scenario
from fedsec.scenario.plan import plan

__all__ = ["OVERHEAD", "Pace", "measured"]

OVERHEAD = 12.0
"""Seconds that go by beside the cells: processes that start, pictures, the page."""
_CELL, _ROUNDS, _ITERATIONS = 0.3, 2, 10
_UNKNOWN_ITERATION = 0.01


@dataclass(frozen=True)
class Pace:
    """What a machine does in which time, for one federation.

    Args:
        gradient: seconds for the gradient of one example, all that goes on beside it included.
        iteration: seconds for one iteration of an inversion.
        workers: cells that are computed at a time.
        examples: training examples, where a scenario does not say how many.
        known: estimates made already, by a cell's sections.
    """

    gradient: float
    iteration: float
    workers: int
    examples: int
    known: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def seconds(self, cells: Sequence[ProbeCell]) -> float:
        """How long cells take, on all workers together.

        Args:
            cells: equal ones count once.
        """
        once = {json.dumps(cell.sections, sort_keys=True): cell for cell in cells}
        return sum(self.alone(cell, key) for key, cell in once.items()) / self.workers

    def alone(self, cell: ProbeCell, key: str) -> float:
        """How long one cell takes.

        Args:
            cell: of a probe.
            key: its sections, as JSON.
        """
        if key not in self.known:
            scenario = _sized(cell.sections, self.examples)
            rounds = scenario.cells()[0].config.federation.rounds
            training = cell.slower * self.gradient * _gradients(scenario, self.examples)
            self.known[key] = _CELL + training + cell.search * rounds + cell.iterations * self.iteration
        return self.known[key]


def measured(
    deployed: Deployment, inverted: ProbeCell | None, *, workers: int | None = None, device: str = "auto"
) -> Pace:
    """Train the federation for two rounds, and invert a few iterations.

    Args:
        deployed: the federation.
        inverted: a cell with an inversion; None where the battery has none.
        workers: cells that are to be computed at a time; by default one a core.
        device: where.
    """
    rounds = min(_ROUNDS, deployed.rounds)
    federation = deployed.sections["federation"]
    cells = [deployed.cell(deployed.seed, federation={**federation, "rounds": rounds, "evaluate_every": 1})]
    if inverted is not None:
        short = {**inverted.sections["inversion"], "iterations": _ITERATIONS, "target": {"client": 0, "rounds": [1]}}
        rounds_of_one = {**inverted.sections["federation"], "rounds": 1, "evaluate_every": 1}
        cells.append({**inverted.sections, "inversion": short, "federation": rounds_of_one})
    gradient, iteration = 0.0, _UNKNOWN_ITERATION
    for place, cell in enumerate(cells):
        with TemporaryDirectory() as folder:
            line = _last_round(cell, Path(folder), device)
        if place == 0:
            work = _gradients(_sized(cell, deployed.train_examples), deployed.train_examples) / rounds
            gradient = line["seconds"] / max(1.0, work)
        elif seen := line.get("leakage"):
            iteration = seen["seconds"] / _ITERATIONS
    return Pace(gradient, iteration, workers or available_cores(), deployed.train_examples)


def _last_round(cell: Mapping[str, Any], folder: Path, device: str) -> dict[str, Any]:
    result = run(scenario_of("pace", "", [cell]), out=folder, executor=InProcess(), device=device)
    if result.failures:
        raise FedsecError(f"the federation cannot be run: {result.records[0]['error']}")
    return round_lines(result.root / result.records[0]["id"])[-1]


def _sized(sections: Mapping[str, Any], examples: int) -> Scenario:
    """A cell as a scenario that says how many examples it has."""
    dataset = {"train_size": examples, **sections["dataset"]}
    return load_scenario(scenario_of("pace", "", [{**sections, "dataset": dataset}]))


def _gradients(scenario: Scenario, examples: int) -> float:
    """Gradients of single examples that a cell computes."""
    return plan(scenario).total or float(examples * scenario.cells()[0].config.federation.rounds)
