"""Cells whose server hijacks the clients of split learning."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fedsec.errors import InputError, ScenarioError
from fedsec.federation import SplitFederation
from fedsec.runs.cell import run_cell
from fedsec.runs.curious_server import CuriousServer
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario
from fedsec.scenario.checks import check_scenario
from tests.federation.split.test_split_learning import vector

EXACT = "donot_use_mm_for_euclid_dist"
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


def test_a_hijacking_server_has_test_images_and_no_weight_of_the_clients_and_looks_at_a_turn_s_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, crossings, decoded = [], [], []
    take_over, reconstruct = SplitFederation.take_over, CuriousServer.reconstruct

    def took(federation: SplitFederation, hijack: Any, *, disguised: bool) -> None:
        taken.append((vector(hijack.view.pilot), vector(federation.bottom), hijack.view.auxiliary.clone()))
        federation.observers.append(crossings.append)
        take_over(federation, hijack, disguised=disguised)

    def looked(server: CuriousServer, number: int, features: Any, *rest: Any) -> None:
        decoded.append((number, features, server.dataset))
        reconstruct(server, number, features, *rest)

    monkeypatch.setattr(SplitFederation, "take_over", took)
    monkeypatch.setattr(CuriousServer, "reconstruct", looked)
    few = {**CELL["federation"], "rounds": 2, "local": {"steps": 2, "batch_size": 16, "lr": 0.1}}
    run(tmp_path, federation=few, inversion={**CELL["inversion"], "target": {**TARGET, "rounds": [2]}})
    ((pilot, bottom, auxiliary),) = taken
    assert not bool(torch.isclose(pilot, bottom).any())
    ((number, features, dataset),) = decoded
    assert number == 2
    first = next(crossing for crossing in crossings if crossing.round == 2)
    assert torch.equal(features, first.sent[:4])
    of_test, of_train = (
        torch.cdist(auxiliary.flatten(1), split.inputs.flatten(1) / 255, compute_mode=EXACT).amin(1)
        for split in (dataset.test, dataset.train)
    )
    assert float(of_test.max()) < 1e-3 < float(of_train.min())


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
