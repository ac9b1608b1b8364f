"""`fedsec list models --dataset`: what models cost on a dataset's images."""

import json
import re
from functools import cache
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.models import MODELS, catalog
from fedsec.models.costs import Costs, costs

runner = CliRunner()
counted_once = cache(costs)


def invoke(*arguments: str, width: int = 120) -> Any:
    return runner.invoke(app, ["list", *arguments], env={"COLUMNS": str(width), "TERM": "dumb"})


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models in the table are counted in tests/models/test_costs.py; a few show what is printed."""
    names = ("cnn", "convnet64", "resnet56", "resnet110", "resnet8", "resnet7")
    monkeypatch.setattr(catalog, "MODELS", {name: MODELS[name] for name in names})
    monkeypatch.setattr(catalog, "costs", counted_once)


def row(shown: str, name: str) -> list[str]:
    (line,) = (line for line in shown.splitlines() if re.match(rf" ?{name} ", line))
    return line.split()


def test_costs_on_cifar10(few: None) -> None:
    result = invoke("models", "--dataset", "cifar10")
    assert result.exit_code == 0, result.output
    table, edge = result.stdout.split("what FedGKT spares its clients")
    assert "models on cifar10 (3x32x32, 10 classes), for one image" in table
    assert row(table, "resnet8") == ["resnet8", "10,586", "19.236", "56.824"]
    assert row(table, "resnet7") == ["resnet7", "10,122", "18.351", "52.433", "on", "16x32x32", "feature", "maps"]
    assert row(edge, "resnet56") == ["resnet56", "9.1x", "9.2x", "9x", "55.9x", "54x"]
    assert row(edge, "resnet110") == ["resnet110", "17.4x", "17.7x", "17x", "108.4x", "105x"]


def test_models_that_cannot_take_the_shape_say_why(few: None) -> None:
    shown = invoke("models", "--dataset", "digits").stdout
    assert " ".join(row(shown, "convnet64")) == "convnet64 images must be at least 9 pixels a side, got 8x8"
    assert row(shown, "resnet7")[-3] == "16x8x8"


@pytest.mark.parametrize("width", [80, 180])
def test_the_tables_fit(few: None, width: int) -> None:
    shown = invoke("models", "--dataset", "digits", width=width).stdout
    assert max(map(len, shown.splitlines())) <= width
    assert "10,298" in shown


def test_costs_for_machines(few: None) -> None:
    told = json.loads(invoke("models", "--dataset", "digits", "--json").stdout)
    assert (told["dataset"], told["input_shape"], told["num_classes"]) == ("digits", [1, 8, 8], 10)
    models = {item["name"]: item for item in told["models"]}
    assert models["convnet64"]["refused"] == "images must be at least 9 pixels a side, got 8x8"
    assert "parameters" not in models["convnet64"]
    assert models["resnet7"] == {
        "name": "resnet7",
        "input_shape": [16, 8, 8],
        "on_features": True,
        "parameters": 10_122,
        "forward_flops": models["resnet7"]["forward_flops"],
        "training_flops": models["resnet7"]["training_flops"],
    }
    assert told["edge"]["client"] == "resnet8"
    small, large = told["edge"]["networks"]
    assert small["parameters"] == models["resnet56"]["parameters"] / models["resnet8"]["parameters"]
    assert large["forward_flops"] == models["resnet110"]["forward_flops"] / models["resnet8"]["forward_flops"]
    assert (large["paper_flops"], large["paper_parameters"]) == (17, 105)


def test_every_dataset_s_classes_count(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(name: str, input_shape: tuple[int, int, int], num_classes: int) -> Costs:
        asked.append((input_shape, num_classes))
        return Costs(1, 1, 1)

    monkeypatch.setattr(catalog, "costs", ask)
    assert invoke("models", "--dataset", "cifar100").exit_code == 0
    assert set(asked) == {((3, 32, 32), 100), ((16, 32, 32), 100)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attacks", "--dataset", "cifar10"], "error: fedsec list --dataset: goes with models only"),
        (["--dataset", "cifar10"], "error: fedsec list --dataset: goes with models only"),
        (["models", "--dataset", "cifar"], "error: unknown dataset 'cifar' (did you mean 'cifar10'?)"),
        (["models", "--dataset", "image_folder"], "error: dataset 'image_folder': its images' shape and classes"),
        (["models", "--dataset", "diabetes"], "error: dataset 'diabetes' holds vectors; expected a dataset of images"),
    ],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_without_a_dataset_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Costs:
        raise AssertionError

    monkeypatch.setattr(catalog, "costs", refuse)
    result = invoke("models")
    assert result.exit_code == 0
    assert "MFLOPs" not in result.stdout
