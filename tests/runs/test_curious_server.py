"""The curious server: what it sees is what clients sent, and neither seeing nor inverting it changes the training."""

import json
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.federation import Federation, KnowledgeFederation
from fedsec.federation.algorithms.fedavg import FedAvg
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.rounds import sample_clients
from fedsec.inversion.server_view import batch_statistics
from fedsec.metrics.metric import of_source
from fedsec.report.evidence.image_tiles import read_tiles
from fedsec.runs import cell
from fedsec.runs.cell import OnRound, run_cell
from fedsec.runs.curious_server import MOST_FEATURES, CuriousServer
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams
from fedsec.threat import Knowledge, PixelScale, Reconstruction

OF_IMAGES = [name for name in of_source("inversion") if not name.startswith(("token", "exact", "rouge"))]
"""What is measured of images; the rest is of texts."""
DIGITS = {"name": "digits", "train_size": 24, "test_size": 20}
MLP: dict[str, Any] = {"name": "mlp", "hidden": [8]}
NORMALIZED: dict[str, Any] = {"name": "resnet4", "norm": "bn"}
FEDSGD = {"algorithm": "fedsgd", "rounds": 3, "server_lr": 0.5}
FEDAVG = {"algorithm": "fedavg", "rounds": 3, "local": {"epochs": 2, "batch_size": 2, "lr": 0.1}}
FEDGKT = {
    "algorithm": "fedgkt",
    "rounds": 3,
    "local": {"epochs": 1, "batch_size": 4, "lr": 0.1},
    "server": {"model": "resnet7", "epochs": 1, "batch_size": 12},
}
TARGET = {"client": 1, "rounds": [1, 3]}
MATCHING = {"name": "inverting_gradients", "iterations": 3, "target": TARGET}
FEATURES = {"name": "feature_inversion", "iterations": 60, "target": TARGET}

CASES: dict[str, dict[str, Any]] = {
    "gradients of single images": {
        "partition": {"clients": 24},
        "federation": FEDSGD,
        "inversion": {"name": "analytic", "target": TARGET},
    },
    "gradients and batch statistics": {
        "model": NORMALIZED,
        "federation": FEDSGD,
        "inversion": {**MATCHING, "knowledge": {"labels": True, "bn_statistics": "batch"}},
    },
    "updates beside the median": {
        "model": NORMALIZED,
        "federation": FEDAVG,
        "defense": "median",
        "inversion": MATCHING,
    },
    "feature maps": {"model": NORMALIZED, "federation": FEDGKT, "inversion": FEATURES},
    "feature maps of an extractor that drifted": {
        "model": NORMALIZED,
        "federation": {**FEDGKT, "asynchronous": True},  # which lets a resumed server compute messages anew
        "inversion": {**FEATURES, "iterations": 5, "knowledge": {"extractor": "initial"}},
    },
}
EXACT = ("gradients of single images", "feature maps")
ROUGH = tuple(case for case in CASES if case not in EXACT)


def config(**sections: Any) -> CellConfig:
    """A scenario's only cell: six clients of four images unless the sections say otherwise."""
    return CellConfig.model_validate({"dataset": DIGITS, "partition": {"clients": 6}, "model": MLP, **sections})


def finish(made: CellConfig, root: Path, on_round: OnRound = lambda *_: None) -> Path:
    """Run a cell, or go on with it; its folder."""
    run_cell(made, {}, TaskSettings(root, "cpu", 1), on_round)
    return root / made.id


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def leakages(folder: Path) -> list[dict[str, Any]]:
    return [line["leakage"] for line in lines(folder) if line["leakage"] is not None]


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())["metrics"]
    return found


def trained(folder: Path) -> tuple[list[dict[str, Any]], bytes]:
    """All that training left, without how long it took and what somebody made of its messages."""
    others = ("seconds", "aggregation_seconds", "leakage")
    rounds = [{key: value for key, value in line.items() if key not in others} for line in lines(folder)]
    return rounds, (folder / "model.safetensors").read_bytes()


def leaked(folder: Path) -> tuple[list[dict[str, Any] | None], dict[str, Any], dict[str, bytes]]:
    """All that the curious server left, without how long it took."""
    found = [line["leakage"] for line in lines(folder)]
    told = [each and {key: value for key, value in each.items() if key != "seconds"} for each in found]
    measured = {name: value for name, value in metrics(folder).items() if name != "aggregation_seconds"}
    return told, measured, {str(path.relative_to(folder)): path.read_bytes() for path in observations(folder)}


def observations(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("leakage/**/*") if path.is_file())


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("leakage/**/reconstruction*.png"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def observed(root: Path) -> dict[str, Path]:
    """The folder of each case, run to its end without a break."""
    return {case: finish(config(**sections), root) for case, sections in CASES.items()}


# Whole runs


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_to_the_bit_as_without_a_curious_server(
    observed: dict[str, Path], tmp_path: Path, case: str
) -> None:
    plain = finish(config(**{**CASES[case], "inversion": None}), tmp_path)
    assert plain.name != observed[case].name
    assert trained(plain) == trained(observed[case])
    assert "leakage" not in lines(plain)[0]
    assert not metrics(plain).keys() & set(of_source("inversion"))


@pytest.mark.parametrize("case", EXACT)
def test_what_can_be_read_off_a_message_is_recovered(observed: dict[str, Path], case: str) -> None:
    found = metrics(observed[case])
    assert found["recovered"] == found["label_accuracy"] == 1
    assert found["psnr"] > 50 > found["psnr_gray"]


def test_granted_labels_are_right(observed: dict[str, Path]) -> None:
    assert metrics(observed["gradients and batch statistics"])["label_accuracy"] == 1


@pytest.mark.parametrize("case", CASES)
def test_what_leaks_is_told_of_observed_rounds_and_of_no_others(observed: dict[str, Path], case: str) -> None:
    first, between, last = lines(observed[case])
    assert between["leakage"] is None
    images = 24 // CASES[case].get("partition", {"clients": 6})["clients"]
    for line in (first, last):
        assert (line["leakage"]["client"], line["leakage"]["images"]) == (1, images)
        assert line["leakage"]["metrics"].keys() == set(OF_IMAGES)
    assert [path.parent.name for path in pictures(observed[case])] == ["round-0001", "round-0003"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures(observed[case]))


@pytest.mark.parametrize("case", CASES)
def test_images_and_their_scores_lie_beside_each_other(observed: dict[str, Path], case: str) -> None:
    for line in (lines(observed[case])[0], lines(observed[case])[2]):
        number, metrics = line["round"], line["leakage"]["metrics"]
        tiles = read_tiles(observed[case] / "leakage" / f"round-{number:04d}")
        assert tiles is not None
        assert (tiles.about["client"], tiles.about["round"]) == (1, number)
        for name in ("psnr", "ssim", "psnr_gray"):
            assert fmean(scores[name] for scores in tiles.scores) == pytest.approx(metrics[name], rel=1e-12)
        for original, recovered, scores in zip(tiles.originals, tiles.recovered, tiles.scores, strict=True):
            error = np.square((original.astype(float) - recovered) / 255).mean()
            assert error == pytest.approx(scores["mse"], rel=0.1, abs=1e-4)  # pixels are rounded to 256 values


@pytest.mark.parametrize("case", ROUGH)
def test_a_cell_s_metrics_are_means_over_the_observed_rounds(observed: dict[str, Path], case: str) -> None:
    first, last = (each["metrics"] for each in leakages(observed[case]))
    assert first["psnr"] != last["psnr"]
    for name in OF_IMAGES:
        mean = None if first[name] is None else pytest.approx(fmean([first[name], last[name]]), rel=1e-12)
        assert metrics(observed[case])[name] == mean


def test_labels_alone_have_an_accuracy_and_no_picture(root: Path) -> None:
    folder = finish(config(federation=FEDSGD, inversion={"name": "labels", "target": TARGET}), root)
    found = metrics(folder)
    assert found["label_accuracy"] == fmean(each["metrics"]["label_accuracy"] for each in leakages(folder))
    assert found["label_accuracy"] > 0.5
    assert [name for name in OF_IMAGES if found[name] is not None] == ["label_accuracy"]
    assert not pictures(folder)


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """Ends a run from outside."""


def interrupt(at: int, number: int, *_: Any) -> None:
    if number == at:
        raise Interrupted


@pytest.mark.parametrize("case", ["updates beside the median", "feature maps of an extractor that drifted"])
def test_what_leaked_before_an_interruption_is_kept(
    observed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(cell, "CHECKPOINT_SHARE", 0)
    made, whole = config(**CASES[case]), observed[case]
    with pytest.raises(Interrupted):
        finish(made, tmp_path, partial(interrupt, 3))  # its line is written, but no checkpoint
    folder = tmp_path / made.id
    before = lines(folder)
    assert finish(made, tmp_path) == folder
    assert lines(folder)[:2] == before[:2]  # to the second: they were not played again
    assert trained(folder) == trained(whole)
    assert leaked(folder) == leaked(whole)


# Clients that take no part


def partial_participation(rounds_with_target: int) -> CellConfig:
    """Three of six clients a round, and a target that two observed rounds see so often."""
    sampled = [sample_clients(6, 3, number, Streams(0)) for number in (1, 2)]
    client = next(one for one in range(6) if sum(one in each for each in sampled) == rounds_with_target)
    federation = {**FEDSGD, "rounds": 2, "clients_per_round": 3}
    return config(federation=federation, inversion={**MATCHING, "target": {"client": client, "rounds": [1, 2]}})


def test_of_a_client_that_takes_no_part_nothing_is_found(root: Path) -> None:
    folder = finish(partial_participation(0), root)
    assert [line["leakage"] for line in lines(folder)] == [None, None]
    assert not metrics(folder).keys() & set(of_source("inversion"))
    assert not pictures(folder)


def test_rounds_without_the_client_do_not_count(root: Path) -> None:
    made = partial_participation(1)
    assert made.inversion.target is not None
    folder = finish(made, root)
    assert [line["leakage"] is not None for line in lines(folder)] == [
        made.inversion.target.client in line["clients"] for line in lines(folder)
    ]
    (only,) = leakages(folder)
    assert only["metrics"]["psnr"] == metrics(folder)["psnr"]


# What is seen


class Witness:
    """Stands in for the attack and keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def reconstruct(self, observation: Any, *, generator: torch.Generator) -> Reconstruction:
        self.seen.append(observation)
        return Reconstruction(None, None)


def built(made: CellConfig) -> Experiment:
    return build_experiment(made, device=torch.device("cpu"), threads=1)


def watched(made: CellConfig, folder: Path) -> tuple[Experiment, list[Any]]:
    """A cell that nothing of has been played, and what its server will have seen."""
    experiment, witness = built(made), Witness()
    CuriousServer(made, experiment.dataset, experiment.federation, folder).inversion = witness
    return experiment, witness.seen


def updates(experiment: Experiment) -> Federation:
    assert isinstance(experiment.federation, Federation)
    return experiment.federation


def knowledge(experiment: Experiment) -> KnowledgeFederation:
    assert isinstance(experiment.federation, KnowledgeFederation)
    return experiment.federation


def half(experiment: Experiment, examples: np.ndarray) -> tuple[Tensor, Tensor]:
    """Some training images with pixels in [-1, 1], and their labels."""
    split = experiment.dataset.train
    return (split.images[examples].float() / 255 - 0.5) / 0.5, split.labels[examples]


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    rows, expected = one.state_dict(), other.state_dict()
    assert rows.keys() == expected.keys()
    assert [name for name in rows if not torch.equal(rows[name], expected[name])] == []


def halfway(made: CellConfig, folder: Path) -> tuple[Experiment, nn.Module, Any]:
    """A federation after three rounds of which the second was observed, the model it sent then, the observation."""
    experiment, seen = watched(made, folder)
    federation, modes = updates(experiment), set()
    federation.observers.append(lambda *_: modes.add(federation.module.training))
    federation.play()
    sent = deepcopy(federation.module)
    federation.play(), federation.play()
    (observation,) = seen
    assert len(modes) == 1  # looking left the model as it was
    return experiment, sent, observation


def second_round(**sections: Any) -> CellConfig:
    """Three of six clients a round, and the last of the second round as the target."""
    client = sample_clients(6, 3, 2, Streams(0))[-1]
    assert client > 2  # or its row would be found by its number
    inversion = {**MATCHING, "target": {"client": client, "rounds": [2]}, **sections.pop("inversion", {})}
    federation = {**sections.pop("federation"), "clients_per_round": 3}
    return config(dataset={**DIGITS, "normalization": "half"}, federation=federation, inversion=inversion, **sections)


@pytest.mark.parametrize("model", [MLP, NORMALIZED])
def test_of_fedsgd_the_gradient_of_the_mean_loss_is_seen(tmp_path: Path, model: dict[str, Any]) -> None:
    made = second_round(model=model, federation=FEDSGD)
    experiment, sent, observation = halfway(made, tmp_path)
    assert made.inversion.target is not None
    images, labels = half(experiment, updates(experiment).data.clients[made.inversion.target.client])
    assert_same_weights(observation.model, sent)
    assert any(layer.training for layer in observation.model.modules()) == (model is NORMALIZED)
    parameters = dict(sent.train().named_parameters())
    expected = torch.autograd.grad(F.cross_entropy(sent(images), labels), list(parameters.values()))
    assert max(float(row.abs().max()) for row in expected) > 0.01
    for name, row in zip(parameters, expected, strict=True):
        torch.testing.assert_close(observation.update[name], row, rtol=1e-3, atol=1e-6)
    assert (observation.batch_size, observation.input_shape, observation.num_classes) == (4, (1, 8, 8), 10)
    assert (observation.scale, observation.local) == (PixelScale((0.5,), (0.5,)), None)


@pytest.mark.parametrize(
    "local",
    [
        {"epochs": 2, "batch_size": 3, "momentum": 0.9, "weight_decay": 0.1},
        {"epochs": 3, "batch_fraction": 0.5},
        {"steps": 3, "batch_size": 2},
        {"steps": 2, "batch_size": 9, "momentum": 0.5},
    ],
)
@pytest.mark.parametrize("model", [{"name": "lenet"}, NORMALIZED])
def test_replaying_the_local_training_that_is_told_gives_the_update(
    tmp_path: Path, model: dict[str, Any], local: dict[str, Any]
) -> None:
    made = second_round(model=model, federation={**FEDAVG, "local": {**local, "lr": 0.1}})
    experiment, sent, observation = halfway(made, tmp_path)
    assert made.inversion.target is not None
    assert_same_weights(observation.model, sent)
    federation, told = updates(experiment), observation.local
    assert isinstance(federation.algorithm, FedAvg)
    plan = plan_client(federation.data, made.inversion.target.client, federation.algorithm.local, 2, federation.streams)
    stream = np.concatenate([batch[:size] for batch, size in zip(plan.examples, plan.sizes, strict=True)])
    replayed = deepcopy(sent).train()
    optimizer = torch.optim.SGD(
        replayed.parameters(), lr=told.lr, momentum=told.momentum, weight_decay=told.weight_decay
    )
    for epoch, places in told.slots(4):
        images, labels = half(experiment, stream[4 * epoch : 4 * epoch + 4][places])
        optimizer.zero_grad()
        F.cross_entropy(replayed(images), labels).backward()
        optimizer.step()
    before = dict(sent.named_parameters())
    for name, row in replayed.named_parameters():
        torch.testing.assert_close(observation.update[name], row - before[name], rtol=1e-3, atol=1e-5)
    assert max(float(row.abs().max()) for row in observation.update.values()) > 0.01
    assert told.steps == plan.steps


def test_granted_labels_are_the_client_s_in_an_order_of_their_own(tmp_path: Path) -> None:
    inversion = {**MATCHING, "target": {"client": 1, "rounds": [1, 2, 3]}, "knowledge": {"labels": True}}
    experiment, seen = watched(config(federation=FEDSGD, inversion=inversion), tmp_path)
    list(experiment.federation.run())
    _, labels = half(experiment, experiment.federation.data.clients[1])
    orders = [observation.labels.tolist() for observation in seen]
    assert [sorted(order) for order in orders] == [sorted(labels.tolist())] * 3
    assert len(set(map(tuple, orders))) > 1


@pytest.mark.parametrize("federation", [FEDSGD, FEDAVG])
def test_what_is_not_granted_is_not_seen(tmp_path: Path, federation: dict[str, Any]) -> None:
    _, _, observation = halfway(second_round(model=NORMALIZED, federation=federation), tmp_path)
    assert observation.labels is None
    assert observation.statistics is None


def test_granted_statistics_are_those_of_the_client_s_batch(tmp_path: Path) -> None:
    inversion = {"knowledge": {"bn_statistics": "batch"}}
    made = second_round(model=NORMALIZED, federation=FEDSGD, inversion=inversion)
    experiment, sent, observation = halfway(made, tmp_path)
    assert made.inversion.target is not None
    entered: dict[str, Tensor] = {}
    for name, module in sent.train().named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, inputs, __, name=name: entered.update({name: inputs[0]}))
    sent(half(experiment, updates(experiment).data.clients[made.inversion.target.client])[0])
    assert len(entered) > 1
    assert observation.statistics.keys() == entered.keys()
    for name, (mean, variance) in observation.statistics.items():
        torch.testing.assert_close(mean, entered[name].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(variance, entered[name].var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bn", ["average", "reset"])
@pytest.mark.parametrize(
    "training", [FEDSGD, {**FEDAVG, "local": {"steps": 1, "batch_size": 4, "lr": 0.1}}], ids=["fedsgd", "fedavg"]
)
def test_sent_statistics_of_one_step_are_those_of_the_client_s_batch(
    tmp_path: Path, training: dict[str, Any], bn: str
) -> None:
    inversion = {"knowledge": {"bn_statistics": "sent"}}
    made = second_round(model=NORMALIZED, federation={**training, "bn": bn}, inversion=inversion)
    experiment, sent, observation = halfway(made, tmp_path)
    assert made.inversion.target is not None
    client = updates(experiment).data.clients[made.inversion.target.client]
    truth = batch_statistics(sent, experiment.dataset.train.images[client], updates(experiment).data.normalization)
    assert len(truth) > 1
    assert observation.statistics.keys() == truth.keys()
    assert updates(experiment).received_statistics is None
    for name, pair in observation.statistics.items():
        for row, expected in zip(pair, truth[name], strict=True):
            torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("federation", [FEDSGD, FEDAVG])
def test_who_takes_the_running_averages_looks_at_a_model_that_uses_them(
    tmp_path: Path, federation: dict[str, Any]
) -> None:
    inversion = {"knowledge": {"bn_statistics": "running"}}
    made = second_round(model=NORMALIZED, federation=federation, inversion=inversion)
    _, sent, observation = halfway(made, tmp_path)
    assert_same_weights(observation.model, sent)
    assert not any(layer.training for layer in observation.model.modules())
    assert observation.statistics is None


def gkt(**inversion: Any) -> CellConfig:
    """FedGKT with two clients of twelve images, the second of which is observed in the second round."""
    target = {"client": 1, "rounds": [2], **inversion.pop("target", {})}
    return config(
        dataset={**DIGITS, "normalization": "half"},
        partition={"clients": 2},
        model=NORMALIZED,
        federation=FEDGKT,
        inversion={**FEATURES, "target": target, **inversion},
    )


@pytest.mark.parametrize(("target", "count"), [({}, MOST_FEATURES), ({"images": 3}, 3), ({"images": 99}, 12)])
def test_of_fedgkt_the_feature_maps_are_seen_that_the_known_extractor_makes(
    tmp_path: Path, target: dict[str, int], count: int
) -> None:
    experiment, seen = watched(gkt(target=target), tmp_path)
    federation = knowledge(experiment)
    received: dict[tuple[int, int], Knowledge] = {}
    federation.observers.append(lambda number, client, message: received.update({(number, client): message}))
    list(federation.run())
    (observation,) = seen
    message = received[2, 1]
    assert torch.equal(observation.features, message.features[:count])
    assert torch.equal(observation.labels, message.labels[:count])
    images, labels = half(experiment, np.sort(federation.data.clients[1])[:count])
    assert torch.equal(observation.labels, labels)
    with torch.no_grad():
        torch.testing.assert_close(observation.extractor(images), observation.features, rtol=1e-4, atol=1e-5)
    assert observation.exact
    assert (observation.input_shape, observation.scale) == ((1, 8, 8), PixelScale((0.5,), (0.5,)))


@pytest.mark.parametrize("resumed", [False, True])
def test_the_initial_extractor_is_what_was_handed_out_before_any_training(tmp_path: Path, resumed: bool) -> None:
    made = gkt(knowledge={"extractor": "initial"})
    experiment, seen = watched(made, tmp_path)
    federation, first, untrained = knowledge(experiment), knowledge(built(made)), knowledge(built(made))
    if resumed:
        first.play()
        federation.restore(first.state(), 1)
    list(federation.run())
    (observation,) = seen
    assert not observation.exact
    assert_same_weights(observation.extractor, untrained.clients.extractor)
    images, _ = half(experiment, np.sort(federation.data.clients[1])[:MOST_FEATURES])
    with torch.no_grad():
        drift = observation.extractor(images) - observation.features
    assert float(drift.abs().max()) > 0.01


# What is refused


def averaging(**local: Any) -> dict[str, Any]:
    return {"federation": {**FEDAVG, "local": local}, "inversion": MATCHING}


def test_batches_that_run_over_the_seams_between_passes_are_refused(tmp_path: Path) -> None:
    words = r"^inversion: with local\.steps, batches of 3 run over the seams between passes over 4 images"
    with pytest.raises(InputError, match=words):
        finish(config(**averaging(steps=4, batch_size=3)), tmp_path)


@pytest.mark.parametrize(
    ("local", "model"), [({"epochs": 3, "batch_size": 3, "lr": 1e35}, {"name": "mlp", "hidden": [8, 8]})]
)
def test_a_client_that_diverges_costs_its_picture_and_not_the_cell(
    tmp_path: Path, local: dict[str, Any], model: dict[str, Any]
) -> None:
    lost = config(
        model=model, federation={"rounds": 1, "local": local}, inversion={**MATCHING, "target": {"client": 3}}
    )
    folder = finish(lost, tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"]["rejected_updates"] > 0
    assert "psnr" not in result["metrics"]
    (line,) = (json.loads(each) for each in (folder / "rounds.jsonl").read_text().splitlines())
    assert "not finite" in line["leakage"]["notes"][0]


def test_one_round_is_not_disturbed_either(tmp_path: Path) -> None:
    """Rounds that may share their training do so with and without an observer."""
    once = {"rounds": 1, "local": {"epochs": 2, "batch_size": 3}}
    models = [
        (finish(config(federation=once, **more), tmp_path) / "model.safetensors").read_bytes()
        for more in ({}, {"inversion": {**MATCHING, "target": {"client": 3}}})
    ]
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"federation": FEDSGD, "inversion": {**MATCHING, "knowledge": {"bn_statistics": "batch"}}},
            "^inversion.knowledge.bn_statistics: the model has no batch normalization",
        ),
        (
            {
                "model": NORMALIZED,
                "federation": {**FEDSGD, "bn": "local"},
                "inversion": {**MATCHING, "knowledge": {"bn_statistics": "sent"}},
            },
            "^inversion.knowledge.bn_statistics: with federation.bn: local clients send no running statistics",
        ),
        (
            {
                "federation": {"rounds": 9, "local": {"steps": 2, "batch_size": 3}},
                "inversion": {**MATCHING, "target": {"client": 1, "rounds": [9]}},
            },
            "^inversion: .* run over the seams",
        ),
    ],
)
def test_what_cannot_be_replayed_is_refused_before_the_first_round(
    tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        finish(config(**sections), tmp_path)
    assert not list(tmp_path.glob("*/rounds.jsonl"))


def test_a_first_pass_that_is_broken_off_has_no_seam(tmp_path: Path) -> None:
    finish(
        config(federation={"rounds": 1, "local": {"steps": 1, "batch_size": 3}}, inversion={**MATCHING, "target": {}}),
        tmp_path,
    )


def test_what_a_byzantine_target_sent_is_marked(tmp_path: Path) -> None:
    """Five of six clients are Byzantine, and each is looked at once."""
    notes = []
    for client in range(6):
        made = config(
            federation={**FEDSGD, "rounds": 1},
            attack={"name": "sign_flip", "num_byzantine": 5},
            inversion={"name": "labels", "target": {"client": client}},
        )
        (leakage,) = leakages(finish(made, tmp_path))
        notes.append([note for note in leakage["notes"] if "Byzantine" in note])
    assert sorted(map(len, notes)) == [0, 1, 1, 1, 1, 1]
    place = next(place for place, each in enumerate(notes) if each)
    assert notes[place] == [f"client {place} is Byzantine: what it sent need not be what it trained"]


def test_more_images_than_a_client_has_are_not_promised(tmp_path: Path) -> None:
    for asked, expected in ((4, []), (9, ["the client has 4 images, not 9"])):
        target = {"client": 1, "rounds": [1], "images": asked}
        made = config(
            model=NORMALIZED,
            federation={**FEDGKT, "rounds": 1},
            inversion={"name": "feature_inversion", "iterations": 2, "target": target},
        )
        (leakage,) = leakages(finish(made, tmp_path))
        assert leakage["images"] == 4
        assert [note for note in leakage["notes"] if "images" in note] == expected


def test_of_a_sum_the_server_recovers_the_images_of_the_group(tmp_path: Path) -> None:
    wide = {"name": "mlp", "hidden": [256]}
    target = {"client": 1, "rounds": [1]}
    summed = config(
        partition={"clients": 12},
        model=wide,
        federation={"algorithm": "fedsgd", "rounds": 1, "secure_aggregation": {"clients": 3}},
        inversion={"name": "spear", "target": target},
    )
    folder = finish(summed, tmp_path)
    (leakage,) = leakages(folder)
    assert leakage["images"] == 6
    assert leakage["notes"][0].startswith("the sum of 3 clients")
    assert leakage["metrics"]["psnr"] > 80


def test_what_is_told_of_defenses_in_a_sum_is_their_noise_averaged(tmp_path: Path) -> None:
    target = {"client": 1, "rounds": [1]}
    sections: dict[str, Any] = {
        "partition": {"clients": 4},
        "federation": {
            "algorithm": "fedsgd",
            "weighting": "uniform",
            "rounds": 1,
            "secure_aggregation": {"clients": 4},
        },
        "inversion": {"name": "inverting_gradients", "iterations": 1, "target": target},
    }
    defended = [{"name": "clip", "max_norm": 1.0}, {"name": "gaussian_noise", "std": 0.2}, "mean"]
    made = config(**sections, defense=defended)
    experiment = build_experiment(made, device=torch.device("cpu"), threads=1)
    federation = experiment.federation
    assert isinstance(federation, Federation)
    known = federation.client_defenses.known_of_sum(torch.ones(4))
    assert known is not None
    assert known.rescaled
    assert set(known.noise.values()) == {0.1}  # of four clients half as much
    alone = federation.client_defenses.known_of_sum(torch.tensor([1.0, 0.0]))
    assert alone is not None
    assert set(alone.noise.values()) == {0.2}
    (leakage,) = leakages(finish(made, tmp_path))
    assert leakage["metrics"] is not None


def test_in_what_a_sum_is_not_the_gradient_of_all_images_is_said(tmp_path: Path) -> None:
    summed = {"algorithm": "fedsgd", "rounds": 1, "secure_aggregation": {"clients": 5}}
    target = {"client": 1, "rounds": [1]}
    sections: dict[str, Any] = {"partition": {"clients": 5}, "inversion": {"name": "labels", "target": target}}
    attacked = {"name": "sign_flip", "num_byzantine": 2}
    (found,) = leakages(
        finish(config(**sections, federation={**summed, "weighting": "uniform"}, attack=attacked), tmp_path)
    )
    assert any("different sizes weigh the same" in note for note in found["notes"])
    assert any(note.startswith("Byzantine in this sum: ") for note in found["notes"])
    (found,) = leakages(finish(config(**sections, federation=summed), tmp_path))
    assert not any("weigh the same" in note or "Byzantine" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"defense": [{"name": "prune"}, "mean"]}, "defenses of single updates leave of a sum"),
        ({"defense": [{"name": "gaussian_noise", "std": 1.0, "relative": True}, "mean"]}, "is not worked out"),
        (
            {"inversion": {**MATCHING, "knowledge": {"bn_statistics": "batch"}}, "model": {**NORMALIZED}},
            "statistics of",
        ),
    ],
)
def test_what_is_not_worked_out_for_sums_is_refused(tmp_path: Path, sections: dict[str, Any], why: str) -> None:
    sums = {**FEDSGD, "secure_aggregation": {"clients": 3}, "bn": "local"}
    with pytest.raises(InputError, match=why):
        finish(config(**{"federation": sums, "inversion": MATCHING, **sections}), tmp_path)
