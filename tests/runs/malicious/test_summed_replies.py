"""A malicious server that sees sums: its target's group works on its models, and the federation does not notice."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig

SUMS = {"secure_aggregation": {"clients": 3}}
FEDSGD = {"algorithm": "fedsgd", "rounds": 1, **SUMS}
FEDAVG = {"algorithm": "fedavg", "rounds": 1, "local": {"epochs": 1, "batch_size": 4, "lr": 0.05}, **SUMS}


def config(name: str, **sections: Any) -> CellConfig:
    inversion = {"name": name, "bins": 128, "target": {"client": 1}, "knowledge": {"auxiliary": 100}}
    digits = {"name": "digits", "train_size": 48, "test_size": 120}
    plain = {"dataset": digits, "partition": {"clients": 6}, "model": {"name": "mlp", "hidden": [8]}}
    return CellConfig.model_validate({**plain, "federation": FEDSGD, "inversion": inversion, **sections})


def finish(made: CellConfig, root: Path) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """What was reconstructed, the model, and the cell's metrics."""
    run_cell(made, {}, TaskSettings(root, "cpu", 1), lambda *_: None)
    folder = root / made.id
    leakage = json.loads((folder / "rounds.jsonl").read_text().splitlines()[0])["leakage"]
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    return leakage, (folder / "model.safetensors").read_bytes(), metrics


CASES: dict[str, dict[str, Any]] = {
    "gradients": {},
    "local training": {"federation": FEDAVG},
    "clipped": {"defense": [{"name": "clip", "max_norm": 0.01}, "mean"]},
    "private": {"defense": [{"name": "dp_sgd", "noise_multiplier": 1.0, "max_grad_norm": 1.0}, "mean"]},
}


@pytest.mark.parametrize("name", ["imprint", "loki"])
@pytest.mark.parametrize("case", CASES)
def test_images_of_a_sum_come_back_beside_an_undisturbed_federation(case: str, name: str, tmp_path: Path) -> None:
    sections = {"federation": FEDAVG, **CASES[case]} if case == "private" else CASES[case]
    leakage, model, metrics = finish(config(name, **sections), tmp_path / "attacked")
    honest = config(name, **{**sections, "inversion": None})
    run_cell(honest, {}, TaskSettings(tmp_path / "honest", "cpu", 1), lambda *_: None)
    assert model == (tmp_path / "honest" / honest.id / "model.safetensors").read_bytes()
    assert (leakage["images"], leakage["group_images"]) == (8, 24)
    of_target, of_group = leakage["metrics"]["recovered"], leakage["group_recovered"]
    if case == "private":
        assert max(of_target, of_group) <= 0.25
    else:
        assert min(of_target, of_group) > 0.6
    assert metrics["group_recovered"] == of_group
    received = "each received a model of its own" if name == "loki" else "all received one model"
    assert leakage["notes"][0].startswith("the sum of 3 clients, 1, ")
    assert received in leakage["notes"][0]


def test_clients_that_refuse_leave_too_few_for_a_sum(tmp_path: Path) -> None:
    leakage, _, metrics = finish(config("imprint", defense=["inspect_model", "mean"]), tmp_path)
    assert leakage["metrics"] is None
    assert leakage["notes"][0].startswith("3 of the sum's 3 clients refused the model: ")
    assert metrics["crafted_models_refused"] == 1
    assert "group_recovered" not in metrics
