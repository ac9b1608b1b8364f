"""Cells whose server hijacks the clients of split learning."""

from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError, ScenarioError
from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario
from fedsec.scenario.checks import check_scenario

TARGET = {"client": 0, "rounds": [2, 4], "images": 4}
CELL: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 300, "test_size": 100},
    "partition": {"clients": 1},
    "model": {"name": "cnn", "channels": [8, 8]},
    "federation": {
        "algorithm": "split_learning",
        "rounds": 4,
        "evaluate_every": 4,
        "local": {"steps": 40, "batch_size": 16, "optimizer": "adam", "lr": 0.003},
    },
    "inversion": {
        "name": "feature_hijacking",
        "width": 64,
        "lr": 0.003,
        "target": TARGET,
        "knowledge": {"auxiliary": 80},
    },
}


def run(root: Path, **changes: Any) -> dict[str, Any]:
    (cell,) = load_scenario({**CELL, **changes}).cells()
    return run_cell(cell.config, cell.axes, TaskSettings(root=root, device="cpu", threads=1), lambda *_: None)


def test_what_hijacked_clients_send_shows_more_than_the_mean_image_does(tmp_path: Path) -> None:
    metrics = run(tmp_path)["metrics"]
    assert metrics["psnr"] > metrics["psnr_mean_image"] > metrics["psnr_gray"]
    assert metrics["accuracy"] < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inversion": {**CELL["inversion"], "knowledge": {}}}, "trains on images of its own; expected a number"),
        (
            {"inversion": {**CELL["inversion"], "knowledge": {"auxiliary": 9, "labels": True}}},
            "reads what its own networks make of activations",
        ),
        ({"federation": {"algorithm": "vertical", "width": 4}}, "so it goes with split_learning"),
        ({"federation": {"algorithm": "fedavg"}}, "so it goes with split_learning"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        check_scenario(load_scenario({**CELL, **changes}))


def test_a_malicious_server_defends_no_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"with federation\.labels: shared that is the malicious server"):
        run(tmp_path, defense="cut_noise")
    with pytest.raises(InputError, match="expected at most the 100 test images, got 101"):
        run(tmp_path, inversion={**CELL["inversion"], "knowledge": {"auxiliary": 101}})
