"""A regression from a scenario's text to its files: no class and no accuracy anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.errors import ScenarioError
from fedsec.runs import InProcess, run
from fedsec.runs.datasets import look
from fedsec.scenario import load_scenario

SCENARIO: dict[str, Any] = {
    "name": "numbers",
    "dataset": "diabetes",
    "partition": {"name": "dirichlet", "alpha": 1.0, "clients": 5, "quantiles": 4},
    "model": "linear",
    "federation": {"algorithm": "fedavg", "rounds": 2, "local": {"epochs": 2, "batch_size": 10, "lr": 0.02}},
    "matrix": {
        "attack": ["none", {"name": "target_shift", "num_byzantine": 2, "shift": 20.0}],
        "defense": ["mean", "median"],
    },
    "expect": [
        {"attack": "target_shift", "defense": "mean", "mean_squared_error": ">= 10"},
        {"attack": "target_shift", "defense": "median", "mean_squared_error": "<= 10"},
        {"attack": "none", "defense": "mean", "mean_squared_error_max_last5": "<= 1"},
    ],
}


@pytest.mark.usefixtures("pictures")
def test_nothing_speaks_of_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    result = run(SCENARIO, out=tmp_path, executor=InProcess(), console=Console(width=100))
    assert (result.failures, result.unmet) == (0, [])
    told = capsys.readouterr().out
    assert "mean_squared_error" in told
    assert "mean_squared_error" in repr(result)
    texts = [told, repr(result)]
    for path in result.root.rglob("*"):
        assert "accuracy" not in path.name
        if path.suffix in (".json", ".jsonl", ".csv"):
            texts.append(path.read_text())
    assert not [text for text in texts if "accuracy" in text]
    assert (result.root / "mean_squared_error.png").is_file()
    partition = json.loads((result.root / result.records[0]["id"] / "partition.json").read_text())
    assert partition["classes"] == [f"quantile {number} of 4" for number in (1, 2, 3, 4)]
    assert sum(map(sum, partition["counts"])) == 354
    assert result.records[0]["constant_answer"]["mean_squared_error"] == pytest.approx(1, abs=0.3)


def test_more_rounds_go_on_where_fewer_ended(tmp_path: Path) -> None:
    one = {**SCENARIO, "matrix": {}, "expect": [], "attack": {"name": "target_shift", "fraction": 0.4}}
    numbers = []
    for begin in (1, 3):
        for rounds in {begin, 3}:
            federation = {**one["federation"], "rounds": rounds}
            result = run({**one, "federation": federation}, out=tmp_path / str(begin), executor=InProcess())
        lines = (result.root / result.records[0]["id"] / "rounds.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        numbers.append([(row["round"], row["mean_squared_error"], row["mean_absolute_error"]) for row in rows])
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"federation": {"algorithm": "centralized", "rounds": 1, "local": {"epochs": 1, "batch_size": 20, "lr": 0.01}}},
        {"federation": {"algorithm": "fedsgd", "rounds": 2, "server_lr": 0.1}},
        {"federation": {"algorithm": "scaffold", "rounds": 2, "local": {"steps": 2, "batch_size": 10, "lr": 0.01}}},
        {"defense": [{"name": "dp_sgd", "noise_multiplier": 1.0}]},
        {"defense": [{"name": "clip", "max_norm": 1.0}, {"name": "multi_krum", "num_byzantine": 1}]},
        {"partition": {"name": "iid", "clients": 4}, "model": {"name": "mlp", "hidden": [8]}},
    ],
)
def test_what_does_not_ask_for_classes_learns_it_too(change: dict[str, Any], tmp_path: Path) -> None:
    result = run({**SCENARIO, "matrix": {}, "expect": [], **change}, out=tmp_path, executor=InProcess())
    assert result.failures == 0
    assert result.records[0]["metrics"]["mean_squared_error"] < 5


LABEL_FLIP = {"name": "label_flip", "num_byzantine": 1}


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"attack": LABEL_FLIP}, "attack.name", "'label_flip' goes with classification; expected another attack"),
        ({"partition": "shards"}, "partition", "expected iid or quantity_skew, or partition.quantiles: 10"),
        ({"model": "logistic"}, "model", "'logistic' goes with classification; expected another model"),
        ({"defense": ["soteria"]}, "defense", "'soteria' goes with classification; expected another defense"),
        ({"metrics": ["balanced_accuracy"]}, "metrics[0]", "'balanced_accuracy' goes with classification"),
        ({"federation": {"algorithm": "fedsgd"}, "inversion": "dlg"}, "inversion", "'dlg' goes with classification"),
        ({"federation": {"algorithm": "fedgkt"}, "model": "resnet4"}, "federation", "'fedgkt' goes with"),
        (
            {"federation": {"local": {"augmentation": "standard"}}},
            "federation.local.augmentation",
            "diabetes holds vectors of 10 numbers",
        ),
        (
            {"dataset": "digits", "attack": {"name": "target_shift", "fraction": 0.5}},
            "attack.name",
            "digits is data for classification, and 'target_shift' goes with regression",
        ),
        ({"dataset": "digits"}, "partition.quantiles", "whose targets are no numbers to be cut into quantiles"),
    ],
)
def test_what_needs_classes_is_refused_before_anything_runs(change: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario({**SCENARIO, "matrix": {}, "expect": [], "name": "sample", **change})
    assert any(f"{where}" in line and message in line for line in str(caught.value).splitlines()), caught.value


def test_more_quantiles_than_examples_are_found_before_the_run() -> None:
    partition = {**SCENARIO["partition"], "quantiles": 400}
    scenario = load_scenario({**SCENARIO, "partition": partition})
    with pytest.raises(ScenarioError, match=r"partition.quantiles: \d+ examples are too few for 400 strata"):
        look(scenario)


def test_what_is_not_measured_cannot_be_expected() -> None:
    for metric, dataset in (("accuracy", "diabetes"), ("mean_squared_error_max_last5", "digits")):
        with pytest.raises(ScenarioError, match=rf"expect\[0\]\.{metric}: is not measured in a (regr|class)"):
            load_scenario({"dataset": dataset, "model": "linear", "expect": [{metric: "<= 1"}]})


def test_a_model_that_diverges_has_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    federation = {**SCENARIO["federation"], "rounds": 40, "local": {"steps": 20, "batch_size": 10, "lr": 5.0}}
    scenario = {**SCENARIO, "matrix": {}, "federation": federation, "expect": [{"diverged_in_round": "1 .. 40"}]}
    result = run(scenario, out=tmp_path, executor=InProcess(), console=Console(width=200))
    assert (result.failures, result.unmet) == (0, [])
    metrics = result.records[0]["metrics"]
    assert metrics["mean_squared_error"] is None
    assert metrics["mean_squared_error_max_last5"] is None
    assert "1 of 1 cell, which ends there and has no mean_squared_error" in capsys.readouterr().out


def test_invert_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["invert", "--dataset", "diabetes", "--model", "linear"])
    assert done.exit_code == 2
    assert "diabetes" in done.stderr
    assert not list(tmp_path.iterdir())
