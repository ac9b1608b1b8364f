"""What updates say of their clients, in running cells: beside defenses, interrupted, and where it cannot be asked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import ClassMix
from fedsec.auditing import clopper_pearson
from fedsec.errors import InputError, ScenarioError
from fedsec.runs.audits.properties import PropertyAudit
from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario
from fedsec.threat import PropertyView

CELL: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 120, "test_size": 20},
    "partition": {"name": "dirichlet", "alpha": 0.3, "clients": 6, "min_per_client": 4},
    "model": "logistic",
    "federation": {"rounds": 4, "local": {"epochs": 1, "batch_size": 8, "lr": 0.1}},
    "audit": {"properties": {"permutations": 199, "projection": 200}},
}


def run(scenario: dict[str, Any], root: Path) -> dict[str, Any]:
    (cell,) = load_scenario(scenario).cells()
    settings = TaskSettings(root=root, device="cpu", threads=1)
    return run_cell(cell.config, cell.axes, settings, lambda *_: None)


def test_updates_of_unlike_clients_tell_whose_they_are_and_what_they_hold(tmp_path: Path) -> None:
    record = run(CELL, tmp_path)
    found, metrics = record["audit"]["properties"], record["metrics"]
    assert found["rounds"] == [1, 2, 3, 4]
    assert metrics["site_identification"] > 0.8
    assert metrics["site_identification_chance"] == pytest.approx(1 / 6)
    assert metrics["site_identification_p"] == 1 / 200
    assert found["site"]["interval"][0] > 1 / 6
    assert found["site"]["interval"][0] < clopper_pearson(6, 6).low + 1e-9  # of six clients, however many updates
    assert metrics["class_mix_distance"] < 0.6 * metrics["class_mix_distance_guess"]
    assert metrics["class_mix_p"] == 1 / 200
    assert found["class_mix"]["correlation"] > 0.8


def test_local_privacy_hides_both(tmp_path: Path) -> None:
    defense = {"name": "local_dp", "clipping_norm": 0.5, "epsilon": 1.0, "delta": 1e-5}
    metrics = run({**CELL, "defense": defense}, tmp_path)["metrics"]
    assert metrics["site_identification"] < 0.5
    assert metrics["site_identification_p"] > 0.01
    assert metrics["class_mix_p"] > 0.01


def test_an_interruption_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(CELL, tmp_path / "whole")
    see = PropertyAudit._see

    def stop(self: PropertyAudit, round_number: int, clients: Any, rows: Any) -> None:
        if round_number == 3:
            raise KeyboardInterrupt
        see(self, round_number, clients, rows)

    with monkeypatch.context() as patch:
        patch.setattr(PropertyAudit, "_see", stop)
        patch.setattr("fedsec.runs.cell.CHECKPOINT_SHARE", 0)
        with pytest.raises(KeyboardInterrupt):
            run(CELL, tmp_path / "resumed")
    assert run(CELL, tmp_path / "resumed")["audit"] == whole["audit"]


def test_being_audited_changes_no_number_of_the_training(tmp_path: Path) -> None:
    plain = run({key: value for key, value in CELL.items() if key != "audit"}, tmp_path / "plain")
    audited = run(CELL, tmp_path / "audited")
    assert audited["metrics"].items() >= {key: plain["metrics"][key] for key in ("accuracy", "loss")}.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"federation": {"rounds": 1}}, "a site is told from its updates of other rounds"),
        ({"audit": {"properties": {"rounds": 1}}}, "a site is told from its updates of other rounds"),
        ({"partition": {"clients": 1}}, "asks what tells clients apart, and there is 1"),
        ({"audit": {"properties": {"inferences": ["sight"]}}}, "inferences"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario({**CELL, **change})


@pytest.mark.parametrize(("shares", "sums"), [((1.5, -0.5), "-0.5 as the smallest"), ((0.5, 0.4), "sums of 0.9")])
def test_what_is_no_mix_of_classes_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: tuple[float, float], sums: str
) -> None:
    def score(self: ClassMix, view: PropertyView) -> Tensor:
        row = torch.tensor([*shares, *[0.0] * (view.num_values - 2)], dtype=torch.float64)
        return row.expand(view.shape).clone()

    monkeypatch.setattr(ClassMix, "score", score)
    with pytest.raises(InputError, match=rf"ClassMix\.score: expected shares of classes.*{sums}"):
        run(CELL, tmp_path)
