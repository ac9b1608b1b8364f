"""The commands of a page run the same again, all of it or one cell."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsec.report.page import RunSummary, RunView
from fedsec.report.page.sections.reproduce import cell_command, reproduce
from fedsec.scenario import Scenario, load_scenario

SCENARIO = """\
dataset: digits
partition: {name: iid, clients: 10}
federation: {rounds: 2}
matrix:
  attack+defense:
    - [none, mean]
    - [{name: label_flip, fraction: 0.2}, [{name: clip, max_norm: 1.0}, median]]
    - [{name: sign_flip, fraction: 0.2, label: "it's"}, median]
  federation.local.lr: [0.1, 0.2]
  seed: [0, 1]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    path = tmp_path / "hand.yaml"
    path.write_text(SCENARIO)
    return load_scenario(path, ["matrix.seed=[3, 4]"])


def as_records(scenario: Scenario) -> list[dict[str, Any]]:
    return [
        {
            "id": cell.id,
            "cell": cell.axes,
            "status": "done",
            "metrics": {},
            "error": None,
            "seconds": 1.0,
            "config": cell.resolved,
        }
        for cell in scenario.cells()
    ]


def test_the_command_of_a_cell_runs_that_cell(scenario: Scenario) -> None:
    summary = RunSummary("hand", given="hand.yaml", scenario=SCENARIO, overrides=("matrix.seed=[3, 4]",))
    for record in as_records(scenario):
        command = cell_command(summary, record)
        assert command is not None
        parts = shlex.split(command)
        assert parts[:3] == ["fedsec", "run", "hand.yaml"]
        settings = [parts[place + 1] for place, part in enumerate(parts) if part == "--set"]
        (cell,) = load_scenario(scenario.path, settings).cells()
        assert cell.id == record["id"]


def test_a_cell_that_is_not_in_the_scenario_has_no_command() -> None:
    record = {"cell": {"attack": "other", "seed": 0}}
    assert cell_command(RunSummary("hand", scenario=SCENARIO), record) is None
    assert cell_command(RunSummary("hand", scenario=": ["), record) is None


def test_a_scenario_without_a_file_is_to_be_saved_first(scenario: Scenario, tmp_path: Path) -> None:
    summary = RunSummary("hand", scenario=SCENARIO)
    view = RunView(tmp_path, as_records(scenario), summary)
    section = reproduce(view)
    assert section is not None
    assert "Save the scenario above as hand.yaml" in section.parts[0].caption  # type: ignore[union-attr]
    unknown = reproduce(replace(view, summary=RunSummary("hand")))
    assert unknown is not None
    assert [part.kind for part in unknown.parts] == ["folded"], "of an unknown scenario only its cells"
