"""A tiny audit from end to end: findings, files, what is taken up again, what is refused."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import fedsec
from fedsec.assessment import budget, kept_plan
from fedsec.assessment.auditor import audit
from fedsec.assessment.battery import run_battery
from fedsec.assessment.budget import BatteryPlan
from fedsec.assessment.effort import Effort
from fedsec.assessment.probes.label_flip import LabelFlipProbe
from fedsec.assessment.result import UNFINISHED, LeftOut
from fedsec.cli.commands import app
from fedsec.errors import InputError
from fedsec.files import read_json
from fedsec.runs import InProcess
from fedsec.runs.events import Event
from fedsec.runs.tasks import CellTask
from fedsec.scenario import load_scenario

module_of_audit = import_module("fedsec.assessment.auditor")
SMALL = {
    "model": {"name": "mlp", "hidden": [8]},
    "clients": 5,
    "rounds": 2,
    "overrides": ["dataset.train_size=100", "dataset.test_size=50"],
    "budget": 3600.0,
    "probes": ["label-flip", "labels"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module", autouse=True)
def _least() -> Iterator[None]:
    """One seed and the first variants only: a budget with room for more would make the tests slow."""
    levels = (Effort(1, False),)
    with pytest.MonkeyPatch.context() as patch:
        for module in (module_of_audit, budget, kept_plan):
            patch.setattr(module, "LEVELS", levels)
        yield


@pytest.fixture(scope="module")
def small(folder: Path) -> fedsec.Audit:
    return audit(**SMALL, out=folder, executor=InProcess())


def test_an_audit_finds_what_it_measured_and_writes_it_down(small: fedsec.Audit, folder: Path) -> None:
    assert {finding.probe for finding in small.findings} == {"label-flip", "labels"}
    assert small.left_out == ()
    assert small.accuracy is not None
    for finding in small.findings:
        assert finding.effect.low <= finding.effect.value <= finding.effect.high
        assert finding.scenario_file is not None
        ids = {cell.id for cell in load_scenario(folder / finding.scenario_file).cells()}
        assert ids <= {path.name for path in (folder / "cells").iterdir()}
    content = read_json(folder / "audit.json")
    assert content["schema_version"] == 1
    assert [one["id"] for one in content["findings"]] == [finding.id for finding in small.findings]
    assert "Labels from updates" in (folder / "audit.html").read_text()
    assert list(small.to_dataframe()["severity"]) == [finding.severity for finding in small.findings]


def test_run_again_it_trains_nothing_anew(small: fedsec.Audit, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle(InProcess):
        def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
            raise AssertionError(f"{len(tasks)} cells are run again")

    monkeypatch.setattr("fedsec.assessment.auditor.measured", None)  # the plan is kept, so that nothing is measured
    again = audit(**SMALL, out=folder, executor=Idle())
    assert [finding.as_json() for finding in again.findings] == [finding.as_json() for finding in small.findings]


def test_a_kept_plan_is_of_one_federation_and_budget(small: fedsec.Audit, folder: Path) -> None:
    names = ["label-flip", "labels"]
    assert kept_plan.kept(folder, small.deployed, names, 3600.0) is not None
    assert kept_plan.kept(folder, small.deployed, names, 60.0) is None
    assert kept_plan.kept(folder, small.deployed, names[:1], 3600.0) is None
    assert kept_plan.kept(folder / "elsewhere", small.deployed, names, 3600.0) is None


def test_what_time_did_not_reach_is_said_and_not_lost(small: fedsec.Audit, tmp_path: Path) -> None:
    probe = LabelFlipProbe()
    cells = probe.cells(small.deployed, Effort(1, False))
    battery = run_battery(cells, tmp_path, until=0.0, console=Console(quiet=True), executor=InProcess())
    assert not battery.interrupted
    outcomes = battery.outcomes(cells)
    assert outcomes.finished == []
    assert set(outcomes.missing.values()) == {"there was no time for it"}
    assert probe.findings(small.deployed, outcomes) == []


def test_a_check_does_not_pass_what_nobody_measured(
    small: fedsec.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap = LeftOut("labels", "Labels", f"1 of 1 {UNFINISHED} (there was no time for it)")
    empty = replace(small, findings=(), left_out=(gap,))
    monkeypatch.setattr(module_of_audit, "audit", lambda **_: empty)
    words = ["audit", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    checked = CliRunner().invoke(app, [*words, "--fail-on", "critical"])
    assert checked.exit_code == 1
    assert "gone on with when the same command is given again" in checked.output


def test_the_command_is_of_the_federation_that_was_audited(small: fedsec.Audit) -> None:
    words = ["audit", *shlex.split(small.command)[2:], "--list"]
    assert "--probe label-flip --probe labels" in small.command
    assert f"--clients {SMALL['clients']}" in small.command
    assert small.command.endswith(f"--out {small.root.name}")
    assert CliRunner().invoke(app, words).exit_code == 0


def test_what_was_left_out_runs_into_a_folder_of_its_own(
    small: fedsec.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> Any:
        return BatteryPlan(small.effort, ("labels",), 1.0, {"label-flip": 60.0}), {}

    monkeypatch.setattr(module_of_audit, "planned", short)
    result = audit(**SMALL, out=tmp_path / "my audit", executor=InProcess())
    (gap,) = [gap for gap in result.left_out if gap.probe == "label-flip"]
    assert "--probe label-flip" in gap.command
    assert "--probe labels" not in gap.command
    assert gap.command.endswith("--out 'my audit-label-flip'")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probes": ["poisning"]}, "unknown probe 'poisning' \\(did you mean 'poisoning'\\?\\)"),
        ({"budget": "soon"}, "budget 'soon': expected a time"),
        ({"data": "no_such_thing"}, "data 'no_such_thing': is neither a folder nor a dataset"),
        ({"model": "no_such_model"}, "unknown model 'no_such_model'"),
        ({"local_epochs": 1, "local_steps": 2}, "local_epochs excludes local_steps"),
        ({"clients": 5, "partition": {"name": "iid", "clients": 6}}, "clients is 5, and partition says 6"),
        ({"overrides": ["attack=sign_flip"]}, "attack"),
        ({"defense": [["median"]]}, "defense"),
        ({"clients": 1}, "no probe can be tried"),
    ],
)
def test_mistakes_are_refused_before_anything_is_run(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        audit(**{**SMALL, "probes": ["label-flip"], **changed}, out=tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / "cells").exists()


def test_what_an_interrupt_left_is_gone_on_with(
    small: fedsec.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(InProcess):
        def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
            yield from super().run(tasks[:2])
            raise KeyboardInterrupt

    class Counting(InProcess):
        def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
            counts.append(len(tasks))
            yield from super().run(tasks)

    counts: list[int] = []
    kept_plan.keep(tmp_path, small.deployed, ["label-flip", "labels"], 3600.0, _schedule(small))
    stopped = audit(**SMALL, out=tmp_path, executor=Interrupted())
    assert stopped.interrupted
    assert any("were not finished" in one.why for one in stopped.left_out)
    assert (tmp_path / "audit.html").is_file()
    again = audit(**SMALL, out=tmp_path, executor=Counting())
    assert not again.interrupted
    assert counts == [2]
    assert [one.as_json() for one in again.findings] == [one.as_json() for one in small.findings]


def _schedule(finished: fedsec.Audit) -> budget.BatteryPlan:
    return budget.BatteryPlan(finished.effort, ("labels", "label-flip"), 10.0, {})
