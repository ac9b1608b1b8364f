"""Recordings of fedsec's own runs: replays of them come to the run's own verdicts, to the bit of its rows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import fedsec
import fedsec.runs
from fedsec.cli import app
from fedsec.recording import open_recording
from fedsec.runs.executor import InProcess
from fedsec.runs.recorded import CellRecorder

RUN: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"name": "digits", "train_size": 120},
    "partition": {"name": "iid", "clients": 7},
    "model": "logistic",
    "federation": {
        "algorithm": "fedavg",
        "rounds": 3,
        "clients_per_round": 6,
        "local": {"steps": 2, "batch_size": 10, "lr": 0.1},
    },
    "attack": {"name": "alie", "z": 1.5, "num_byzantine": 2},
    "defense": [{"name": "nnm", "num_byzantine": 2}, {"name": "dnc", "num_byzantine": 2}],
    "seed": 3,
}


def run(tmp_path: Path, changes: dict[str, Any] | None = None, **options: Any) -> tuple[dict[str, Any], Path, Any]:
    """A run that is recorded; its record, its recording and its log."""
    scenario = {**RUN, **(changes or {})}
    result = fedsec.run(
        scenario, out=tmp_path / "runs", record=tmp_path / "seen", executor=InProcess(), device="cpu", **options
    )
    (record,) = result.records
    log = (tmp_path / "runs" / "tiny" / record["id"] / "rounds.jsonl").read_text().splitlines()
    return record, tmp_path / "seen" / record["id"], [json.loads(line) for line in log]


def test_a_replay_comes_to_the_runs_verdicts(tmp_path: Path) -> None:
    record, seen, log = run(tmp_path)
    told = fedsec.replay(seen, defense=[RUN["defense"], "median"], test="digits")
    assert len(told.rounds) == len(log) == 3
    for one, line in zip(told.rounds, log, strict=True):
        _, own, median = one.rules
        assert one.step == "recorded"
        assert [part.client for part in one.clients] == line["clients"]
        assert [part.client for part in one.clients if part.byzantine] == line["byzantine_in_round"]
        assert list(own.suspected or ()) == line["suspected"]
        assert own.influence == pytest.approx(line["influence"], abs=1e-6)
        assert own.distance == pytest.approx(0, abs=1e-4)  # the step is told from two models in float32
        assert median.distance is not None
        assert median.distance > 0.01
        assert own.metrics["accuracy"] == one.metrics["accuracy"] == line["accuracy"]
    assert open_recording(seen).about["id"] == record["id"]


def test_recording_changes_no_number(tmp_path: Path) -> None:
    record, *_ = run(tmp_path)
    plain = fedsec.run(RUN, out=tmp_path / "plain", executor=InProcess(), device="cpu").records[0]
    assert plain["metrics"]["loss"] == record["metrics"]["loss"]
    assert plain["files"]["model.safetensors"] == record["files"]["model.safetensors"]


def test_gradients_and_running_statistics(tmp_path: Path) -> None:
    federation = {"algorithm": "fedsgd", "rounds": 2, "server_lr": 0.2}
    _, seen, log = run(tmp_path, {"federation": federation, "defense": "median", "model": {"name": "mlp"}})
    recording = open_recording(seen)
    assert recording.holds == "gradients"
    told = fedsec.replay(seen, defense=["median"], test="digits")
    assert told.rounds[1].rules[1].distance == pytest.approx(0, abs=1e-4)
    assert told.rounds[1].rules[1].metrics["accuracy"] == log[1]["accuracy"]


def test_an_interrupted_run_goes_on_with_its_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = CellRecorder.take

    def interrupts(recorder: CellRecorder, result: Any) -> None:
        take(recorder, result)
        if result.round == 2:
            recorder.close()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CellRecorder, "take", interrupts)
        result = fedsec.run(RUN, out=tmp_path / "runs", record=tmp_path / "seen", executor=InProcess(), device="cpu")
        assert result.interrupted
    _, seen, _ = run(tmp_path)
    run(tmp_path / "other")
    (other,) = (tmp_path / "other" / "seen").iterdir()
    recording, whole = open_recording(seen), open_recording(other)
    assert recording.rounds == whole.rounds == (1, 2, 3)
    assert [one.sha256 for one in recording.manifest.rounds] == [one.sha256 for one in whole.manifest.rounds]


def test_finished_cells_that_are_not_recorded_run_again(tmp_path: Path) -> None:
    fedsec.run(RUN, out=tmp_path / "runs", executor=InProcess(), device="cpu")
    with (tmp_path / "said").open("w") as said:
        _, seen, _ = run(tmp_path, console=Console(file=said, width=200))
    assert "not recorded yet" in (tmp_path / "said").read_text()
    assert open_recording(seen).rounds == (1, 2, 3)
    before = (seen / "manifest.json").read_bytes()
    with (tmp_path / "said").open("w") as said:
        run(tmp_path, console=Console(file=said, width=200))
    assert "1 of 1 cell is already finished" in (tmp_path / "said").read_text()
    assert (seen / "manifest.json").read_bytes() == before


def test_the_command_hands_the_folder_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def ran(scenario: object, **options: Any) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(interrupted=False, failures=(), unmet=())

    monkeypatch.setattr(fedsec.runs, "run", ran)
    done = CliRunner().invoke(app, ["run", "quickstart", "--record", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert asked["record"] == tmp_path
