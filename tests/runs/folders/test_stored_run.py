"""A run that lies in a folder is read whole, and what is missing or damaged is said."""

import json
from pathlib import Path

import pytest

from fedsec.errors import InputError
from fedsec.runs import run
from fedsec.runs.executor import InProcess
from fedsec.runs.folders.stored_run import open_run

SCENARIO = {
    "name": "tiny",
    "description": "What is asked.",
    "dataset": {"name": "digits", "train_size": 60},
    "partition": {"name": "iid", "clients": 3},
    "model": "logistic",
    "federation": {"rounds": 2},
    "matrix": {"defense": ["mean", "median"]},
    "expect": [{"defense": "mean", "accuracy": ">= 0.0"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return run(SCENARIO, overrides=["federation.rounds=1"], out=out, executor=InProcess()).root


def test_what_a_run_left_is_read(folder: Path) -> None:
    stored = open_run(folder)
    assert [record["cell"]["defense"] for record in stored.records] == ["mean", "median"]
    assert all(record["config"]["federation"]["rounds"] == 1 for record in stored.records)
    described = stored.summary
    assert (described.name, described.question, described.interrupted) == ("tiny", "What is asked.", False)
    assert "dataset:" in described.scenario
    assert described.command == "fedsec run tiny.yaml --set federation.rounds=1"
    assert [verdict.met for verdict in described.expectations] == [True]
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_a_damaged_cell_is_said(folder: Path) -> None:
    first = open_run(folder).records[0]["id"]
    path = folder / first / "rounds.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    try:
        stored = open_run(folder)
    finally:
        path.write_bytes(before)
    assert stored.damaged == {first: "rounds.jsonl changed or is missing"}
    assert "config" not in stored.records[0]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not the folder of a run"):
        open_run(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps([{"no": "id"}]))
    with pytest.raises(InputError, match=r"results\.json: cannot be read"):
        open_run(tmp_path)
