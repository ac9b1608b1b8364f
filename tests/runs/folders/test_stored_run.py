"""A run that lies in a folder is read whole, and what is missing or damaged is said."""

import json
from pathlib import Path

import pytest

from fedsec.errors import InputError
from fedsec.report.page import RunSummary
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


WHOLE = {"id": "0123456789ab", "cell": {}, "status": "failed", "metrics": {}, "error": "no", "seconds": 0.0}


@pytest.mark.parametrize("change", [{"id": 5}, {"cell": []}, {"status": None}, {"metrics": None}, {"seconds": "long"}])
def test_results_that_somebody_changed_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([WHOLE]))
    assert open_run(tmp_path).records == [WHOLE]
    path.write_text(json.dumps([{**WHOLE, **change}]))
    with pytest.raises(InputError, match=r"results\.json: cannot be read"):
        open_run(tmp_path)
    path.write_text(json.dumps([{key: value for key, value in WHOLE.items() if key not in change}]))
    with pytest.raises(InputError, match=r"results\.json: cannot be read"):
        open_run(tmp_path)


@pytest.mark.parametrize("change", [{"name": 5}, {"question": None}, {"overrides": "x"}, {"overrides": [1]}])
def test_a_description_that_somebody_changed_counts_as_none(change: dict[str, object], tmp_path: Path) -> None:
    content = {"name": "tiny", "question": "What?", "overrides": ["a=1"], "expectations": []}
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert RunSummary.read(tmp_path).question == "What?"
    (tmp_path / "run.json").write_text(json.dumps({**content, **change}))
    assert RunSummary.read(tmp_path) == RunSummary(tmp_path.name)
