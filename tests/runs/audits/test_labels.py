"""What the cut of a network says of labels and images, in running cells."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fedsec.errors import ScenarioError
from fedsec.federation.split.loop import CutNetworkLoop
from fedsec.federation.split.network import Crossing
from fedsec.runs.audits.labels import LabelAudit, _mean_area
from fedsec.runs.cell import run_cell
from fedsec.runs.experiment import build_experiment
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario

CELL: dict[str, Any] = {
    "dataset": {"name": "zero_digits", "train_size": 200, "test_size": 20},
    "partition": {"clients": 2},
    "model": {"name": "mlp", "hidden": [8]},
    "federation": {
        "algorithm": "split_learning",
        "labels": "server",
        "rounds": 2,
        "local": {"epochs": 1, "batch_size": 20, "lr": 0.1},
    },
    "audit": {"labels": {"inferences": ["label_direction", "label_norm", "model_completion"], "known": 1}},
}


def run(root: Path, **changes: Any) -> dict[str, Any]:
    (cell,) = load_scenario({**CELL, **changes}).cells()
    return run_cell(cell.config, cell.axes, TaskSettings(root=root, device="cpu", threads=1), lambda *_: None)


def test_behind_one_linear_layer_directions_tell_every_label_of_two_classes(tmp_path: Path) -> None:
    record = run(tmp_path)
    inferences = record["audit"]["labels"]["inferences"]
    assert list(inferences) == ["label_direction", "label_norm", "model_completion"]
    assert record["metrics"]["label_leak_auc"] == inferences["label_direction"]["auc"] == 1.0
    assert 0 < record["metrics"]["label_leak_auc_blind"] < 1
    assert record["metrics"]["label_leak_accuracy"] is None
    low, high = inferences["label_norm"]["interval"]
    assert low <= inferences["label_norm"]["auc"] <= high


def test_an_interruption_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = {"name": "digits", "train_size": 80, "test_size": 20}  # of two classes all is told in either round
    whole, see = run(tmp_path / "whole", dataset=dataset), LabelAudit._see

    def stop(self: LabelAudit, crossing: Crossing) -> None:
        if crossing.round == 2:
            raise KeyboardInterrupt
        see(self, crossing)

    with monkeypatch.context() as patch:
        patch.setattr(LabelAudit, "_see", stop)
        patch.setattr("fedsec.runs.cell.CHECKPOINT_SHARE", 0)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "resumed", dataset=dataset)
    assert run(tmp_path / "resumed", dataset=dataset)["audit"] == whole["audit"]


def test_a_party_of_a_vertical_federation_asks_too(tmp_path: Path) -> None:
    federation = {"algorithm": "vertical", "width": 4, "rounds": 1, "local": {"epochs": 1, "batch_size": 50, "lr": 0.1}}
    audit = {"labels": {"inferences": "model_completion", "client": 1, "known": 2, "examples": 50}}
    dataset = {"name": "digits", "train_size": 200, "test_size": 20}
    record = run(tmp_path, federation=federation, audit=audit, dataset=dataset)
    assert record["audit"]["labels"]["inferences"]["model_completion"]["examples"] == 50
    assert 0 < record["metrics"]["label_leak_accuracy"] <= 1


def test_a_party_keeps_its_own_gradients_and_nobody_else_s(tmp_path: Path) -> None:
    federation = {"algorithm": "vertical", "width": 4, "rounds": 1, "local": {"epochs": 1, "batch_size": 50, "lr": 0.1}}
    (cell,) = load_scenario({**CELL, "federation": federation}).cells()
    experiment = build_experiment(cell.config, device=torch.device("cpu"), threads=1)
    audit = LabelAudit(cell.config)
    audit.attach(experiment, tmp_path)
    own: dict[int, torch.Tensor] = {}

    def keep(crossing: Crossing) -> None:
        if crossing.client == 0:
            own.update(zip(crossing.examples.tolist(), crossing.gradients.flatten(1).clone(), strict=True))

    loop = experiment.federation
    assert isinstance(loop, CutNetworkLoop)
    loop.observers.append(keep)
    loop.play()
    assert bool(audit.seen.all())
    expected = torch.stack([own[example] for example in audit.everything.tolist()])
    assert torch.equal(audit.gradients, expected)


SPLIT, VERTICAL = CELL["federation"], {**CELL["federation"], "algorithm": "vertical", "width": 4}
VERTICAL.pop("labels")


@pytest.mark.parametrize("federation", [SPLIT, VERTICAL, {**SPLIT, "labels": "client"}])
def test_whoever_adapts_its_own_part_has_it_and_no_label_of_the_others(
    federation: dict[str, Any], tmp_path: Path
) -> None:
    inferences = ["model_completion", {"name": "model_completion", "adapt": True, "steps": 3}]
    audit_section = {"labels": {"inferences": inferences, "known": 2, "client": 1}}
    changes = {"federation": federation, "model": {"name": "mlp", "hidden": [8, 6]}, "audit": audit_section}
    (cell,) = load_scenario({**CELL, **changes}).cells()
    experiment = build_experiment(cell.config, device=torch.device("cpu"), threads=1)
    audit = LabelAudit(cell.config)
    audit.attach(experiment, tmp_path)
    loop = experiment.federation
    assert isinstance(loop, CutNetworkLoop)
    loop.play()
    module, inputs = loop.own_part(audit.everything, 1)
    activations = loop.activations(audit.everything, 1)
    torch.testing.assert_close(module(inputs), activations)
    for parameter in module.parameters():
        parameter.data.zero_()
    assert torch.equal(loop.activations(audit.everything, 1), activations), "it is a copy"

    def scores() -> list[torch.Tensor | None]:
        view = audit._view(audit.gradients, audit._activations(), audit.seen)
        return [audit._scored(inference, view) for inference in audit.inferences.values()]

    before = scores()
    assert not torch.equal(before[0], before[1])  # type: ignore[arg-type]
    asked = torch.from_numpy(audit.asked)
    audit.labels[: len(asked)] = 1 - audit.labels[: len(asked)]
    loop.data.label_of[asked] = 1 - loop.data.label_of[asked]
    assert all(torch.equal(one, other) for one, other in zip(before, scores(), strict=True))  # type: ignore[arg-type]
    audit.labels[len(asked) :] = 1 - audit.labels[len(asked) :]
    assert not torch.equal(before[1], scores()[1])  # type: ignore[arg-type]


def test_a_curious_server_inverts_what_a_client_sends(tmp_path: Path) -> None:
    federation = {**CELL["federation"], "labels": "shared", "rounds": 1}
    inversion = {"name": "feature_inversion", "iterations": 60, "target": {"client": 0, "rounds": [1], "images": 2}}
    more: dict[str, Any] = {"audit": None, "model": {"name": "cnn", "channels": [8, 4]}}
    record = run(tmp_path, federation=federation, inversion=inversion, **more)
    assert record["metrics"]["psnr"] > record["metrics"]["psnr_gray"]
    with pytest.raises(Exception, match="inverts feature maps"):
        run(tmp_path, federation=federation, inversion=inversion, audit=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"federation": {**CELL["federation"], "labels": "shared"}}, "clients send their labels"),
        ({"federation": {"algorithm": "fedavg"}}, "looks at the cut of a network, and fedavg cuts none"),
        ({"audit": {"membership": {}}}, "looks at updates, and split_learning exchanges none"),
        ({"audit": {"labels": {"client": 2}}}, "expected less than partition.clients = 2, got 2"),
        ({"audit": {"labels": {"inferences": "site"}}}, "infers no labels"),
        ({"audit": {"labels": {"known": 0}}}, "needs known labels"),
        ({"defense": "median"}, "expected none or defenses of activations"),
        ({"federation": {**CELL["federation"], "cut": 2}}, "leave none to the server"),
        ({"dataset": "digits", "model": "resnet20"}, "the model has running statistics"),
        ({"federation": {"algorithm": "vertical"}, "partition": {"clients": 9}}, "zero_digits have 8 columns"),
        ({"federation": {"algorithm": "vertical", "clients_per_round": 1}}, "all of 2 take part in each step"),
        (
            {"federation": {"algorithm": "vertical"}, "dataset": "shakespeare", "model": "char_lstm", "audit": None},
            "holds texts, whose places are no columns",
        ),
        ({"dataset": "digits", "defense": "marvell"}, "Marvell is made for 2 classes, and the data have 10"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    from fedsec.scenario.checks import check_scenario

    with pytest.raises(ScenarioError, match=message):
        check_scenario(load_scenario({**CELL, **changes}))


def test_the_area_is_averaged_over_classes() -> None:
    labels = torch.tensor([0, 1, 2]).repeat(4).numpy()
    assert _mean_area(torch.nn.functional.one_hot(torch.from_numpy(labels), 3).double().numpy(), labels) == 1.0
