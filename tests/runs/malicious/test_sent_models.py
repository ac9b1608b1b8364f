"""A malicious server in a running cell: its victim trains on what it made, and the federation does not notice."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.federation import Federation
from fedsec.inversion.server_view import pixel_scale
from fedsec.runs.cell import run_cell
from fedsec.runs.curious_server import CuriousServer
from fedsec.runs.experiment import build_experiment
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig

FEDAVG = {"algorithm": "fedavg", "rounds": 2, "local": {"epochs": 1, "batch_size": 4, "lr": 0.05}}
IMPRINT = {"name": "imprint", "bins": 128, "target": {"client": 1, "rounds": [2]}, "knowledge": {"auxiliary": 100}}


def config(**sections: Any) -> CellConfig:
    digits = {"name": "digits", "train_size": 48, "test_size": 120}
    plain = {"dataset": digits, "partition": {"clients": 4}, "model": {"name": "mlp", "hidden": [8]}}
    return CellConfig.model_validate({**plain, "federation": FEDAVG, "inversion": IMPRINT, **sections})


def finish(made: CellConfig, root: Path) -> Path:
    run_cell(made, {}, TaskSettings(root, "cpu", 1), lambda *_: None)
    return root / made.id


def trained(folder: Path) -> tuple[list[dict[str, Any]], bytes]:
    """All that training left, without how long it took and what somebody made of its messages."""
    others = ("seconds", "aggregation_seconds", "leakage")
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    rounds = [{key: value for key, value in line.items() if key not in others} for line in lines]
    return rounds, (folder / "model.safetensors").read_bytes()


def leakage(folder: Path) -> list[dict[str, Any] | None]:
    return [json.loads(line)["leakage"] for line in (folder / "rounds.jsonl").read_text().splitlines()]


CASES: dict[str, dict[str, Any]] = {
    "local training": {},
    "gradients": {"federation": {"algorithm": "fedsgd", "rounds": 2, "server_lr": 0.1}},
    "clipped updates": {"defense": [{"name": "clip", "max_norm": 0.01}, "median"]},
    "private training": {"defense": [{"name": "dp_sgd", "noise_multiplier": 1.0, "max_grad_norm": 1.0}, "mean"]},
}


@pytest.mark.parametrize("case", CASES)
def test_the_federation_goes_on_as_if_the_server_were_honest(case: str, tmp_path: Path) -> None:
    attacked = finish(config(**CASES[case]), tmp_path / "attacked")
    assert trained(attacked) == trained(finish(config(**CASES[case], inversion=None), tmp_path / "honest"))
    nothing, found = leakage(attacked)
    assert nothing is None
    assert found is not None
    assert found["images"] == 12
    share = found["metrics"]["recovered"]
    assert share == 0 if case == "private training" else share > 0.6
    assert any(note.startswith("the model was made for this client") for note in found["notes"])


def test_a_victim_that_looks_refuses_and_the_server_gets_nothing(tmp_path: Path) -> None:
    folder = finish(config(defense=["inspect_model", "mean"]), tmp_path)
    found = leakage(folder)[1]
    assert found is not None
    assert found["metrics"] is None
    assert found["notes"][0].startswith("the client refused the model: ")
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    assert metrics["crafted_models_refused"] == 1
    assert metrics["models_refused"] == 0


def test_a_model_that_is_made_again_is_the_same(tmp_path: Path) -> None:
    made = config()
    experiment = build_experiment(made, device=torch.device("cpu"), threads=1)
    federation = experiment.federation
    assert isinstance(federation, Federation)
    sent = CuriousServer(made, experiment.dataset, federation, tmp_path).sent
    assert sent is not None
    first, again = sent.model(1, 2), sent.model(1, 2)
    assert first is not federation.module
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))


def test_more_images_than_no_client_has_are_refused(tmp_path: Path) -> None:
    made = config(inversion={**IMPRINT, "knowledge": {"auxiliary": 121}})
    experiment = build_experiment(made, device=torch.device("cpu"), threads=1)
    with pytest.raises(InputError, match="at most the 120 test images, got 121"):
        CuriousServer(made, experiment.dataset, experiment.federation, tmp_path)


def test_servers_that_make_no_model_have_no_use_for_images() -> None:
    with pytest.raises(ValueError, match="inverts the model as it is, and needs no other images"):
        config(inversion={"name": "dlg", "knowledge": {"auxiliary": 5}})


def test_an_attack_that_trains_on_labeled_images_asks_for_them() -> None:
    with pytest.raises(ValueError, match="'seer' trains its model on labeled test images; expected a number of them"):
        config(inversion={"name": "seer"})
    assert config(inversion={"name": "seer", "knowledge": {"auxiliary": 30}}).inversion is not None


def test_a_scenario_without_auxiliary_images_keeps_its_id() -> None:
    told = config(inversion={"name": "dlg", "knowledge": {"auxiliary": 0}})
    assert told.id == config(inversion={"name": "dlg"}).id


def server(tmp_path: Path, **sections: Any) -> tuple[CuriousServer, Federation]:
    made = config(**sections)
    experiment = build_experiment(made, device=torch.device("cpu"), threads=1)
    assert isinstance(experiment.federation, Federation)
    return CuriousServer(made, experiment.dataset, experiment.federation, tmp_path), experiment.federation


def test_the_victim_s_defenses_apply_to_what_it_answers(tmp_path: Path) -> None:
    clipping = server(tmp_path, defense=[{"name": "clip", "max_norm": 0.01}, "mean"])[0].sent
    assert clipping is not None
    reply = clipping.reply(clipping.model(1, 2), 1, 2)
    assert float(reply.row.norm()) == pytest.approx(0.01, rel=1e-4)
    assert reply.distortion is not None
    assert reply.distortion.rescaled
    noisy = server(tmp_path, defense=[{"name": "gaussian_noise", "std": 3.0}, "mean"])[0].sent
    assert noisy is not None
    reply = noisy.reply(noisy.model(1, 2), 1, 2)
    assert float(reply.row.std()) == pytest.approx(3.0, rel=0.05)
    # Noise of its own: that of the round beside it would be told by the difference.
    other = noisy.federation.client_defenses
    drawn = other(torch.zeros(1, other.layout.size), [1], 2, noisy.federation.module)[0]
    assert not torch.allclose(drawn[:64], reply.row[:64], atol=0.5)


def test_private_training_on_a_crafted_model_is_known_to_be_noisy(tmp_path: Path) -> None:
    private = {"name": "dp_sgd", "noise_multiplier": 1.0, "max_grad_norm": 1.0}
    sent = server(tmp_path, defense=[private, "mean"])[0].sent
    assert sent is not None
    spent = sent.federation.state()
    reply = sent.reply(sent.model(1, 2), 1, 2)
    assert reply.distortion is not None
    assert all(noise > 0 for noise in reply.distortion.noise.values())
    after = sent.federation.state()
    assert all(torch.equal(tensor, after[name]) for name, tensor in spent.items())


def test_a_victim_averages_its_statistics_afresh_where_the_federation_resets_them(tmp_path: Path) -> None:
    """After one step on all images, running means are those of the images, and not a tenth of them."""
    local = {"steps": 1, "batch_size": 12, "lr": 0.05}
    federation = {"algorithm": "fedavg", "rounds": 2, "bn": "reset", "local": local}
    _, honest = server(tmp_path, model="resnet4", federation=federation)
    sent = server(tmp_path, model="resnet4", federation=federation)[0].sent
    assert sent is not None
    model = deepcopy(honest.module)
    reply = sent.reply(model, 1, 2)
    assert reply.buffers is not None
    images, _ = honest.data.client_examples(1)
    means: list[Tensor] = []
    name, norm = next((name, one) for name, one in model.named_modules() if isinstance(one, nn.BatchNorm2d))
    handle = norm.register_forward_pre_hook(lambda _, inputs: means.append(inputs[0].detach().mean((0, 2, 3))))
    model.train()(pixel_scale(honest.data.normalization).apply(images.float() / 255))
    handle.remove()
    assert torch.allclose(reply.buffers[f"{name}.running_mean"], means[0], atol=1e-5)
    assert float(means[0].abs().max()) > 1e-2


def test_a_byzantine_victim_does_not_look(tmp_path: Path) -> None:
    curious, federation = server(tmp_path, defense=["inspect_model", "mean"])
    assert curious.sent is not None
    model = curious.sent.model(1, 2)
    asked, reasons = curious.sent.inspected(1, model, 2)
    assert asked
    assert reasons
    federation.attackers = frozenset({1})
    assert curious.sent.inspected(1, model, 2) == (False, "")
