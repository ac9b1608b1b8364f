"""Recorded messages are inverted as live ones are, whatever was recorded: states, updates or gradients."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import fedsec
from fedsec.cli import app
from fedsec.errors import InputError
from fedsec.recording import record
from fedsec.replays.leak import _local
from fedsec.threat import Inversion, LocalSteps, Observation, Reconstruction

IMAGES = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([3])
KNOWN: dict[str, Any] = {"input_shape": (1, 6, 6), "num_classes": 10}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Sigmoid(), nn.Linear(16, 10))


def gradient(model: nn.Module) -> dict[str, Tensor]:
    loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))


def recorded(folder: Path, holds: Any = "states", **about: Any) -> Path:
    model = network()
    sent, message = dict(model.state_dict()), gradient(model)
    if holds != "gradients":
        message = {name: -0.1 * row for name, row in message.items()}
    if holds == "states":
        message = {name: sent[name] + row for name, row in message.items()}
    local = {"lr": 0.1, "steps": 1}
    with record(folder, reference=model, holds=holds, local=local, about=about) as recording:
        recording.round(sent=sent, received={"else": {name: 0 * row for name, row in message.items()}})
        recording.round(sent=sent, received={7: message}, num_examples=[1], byzantine=[7])
    return folder


@pytest.mark.parametrize("holds", ["states", "updates", "gradients"])
def test_images_come_back(tmp_path: Path, holds: str) -> None:
    seen = recorded(tmp_path / "seen", holds)
    leak = fedsec.invert_recorded(seen, client=7, inversion="analytic", model=network(), originals=IMAGES, **KNOWN)
    assert leak.round == 2
    assert leak.labels is not None
    assert leak.labels.tolist() == [3]
    assert leak.scores is not None
    psnr = leak.scores.metrics["psnr"]
    assert psnr is not None
    assert psnr > 40
    assert "client 7 is Byzantine: what it sent need not be what it trained" in leak.remarks
    shown = leak._repr_html_()
    assert "analytic on what client 7 sent in round 2: 1 image" in shown
    assert shown.count("data:image/png;base64,") == 1


def test_it_is_the_inversion_of_a_live_message(tmp_path: Path) -> None:
    from fedsec.attacks import Labels
    from fedsec.seeds import Streams

    seen = recorded(tmp_path / "seen", "gradients")
    leak = fedsec.invert_recorded(seen, client=7, inversion="labels", model=network(), **KNOWN)
    live = Observation.of_gradient(network(), gradient(network()), batch_size=1, **KNOWN)
    own = Labels().reconstruct(live, generator=Streams(0).torch("attack", "round", 2))
    assert leak.images is None
    assert leak.labels is not None
    assert own.labels is not None
    assert leak.labels.tolist() == own.labels.tolist()


def test_what_is_not_known_of_the_training_is_said(tmp_path: Path) -> None:
    model, sent = network(), dict(network().state_dict())
    message = {name: sent[name] - 0.1 * row for name, row in gradient(model).items()}
    with record(tmp_path, reference=model) as recording:
        recording.round(sent=sent, received={7: message}, num_examples=[1])
    leak = fedsec.invert_recorded(tmp_path, client="7", inversion="labels", model=model, **KNOWN)
    assert any(remark.startswith("how the client trained is not known") for remark in leak.remarks)


def test_local_training_is_put_together(tmp_path: Path) -> None:
    with record(tmp_path, local={"lr": 0.5, "epochs": 3, "batch_size": 4, "momentum": 0.9}) as recording:
        recording.round(received=torch.ones(2, 3))
        recording.round(received=torch.ones(2, 3), local={"optimizer": "adam"})
    one, two = fedsec.open_recording(tmp_path)
    assert _local(one, None, 10) == (LocalSteps(0.5, 9, 4, 0.9), [])
    assert _local(one, {"steps": 2, "lr": None}, 10) == (LocalSteps(0.5, 2, 4, 0.9), [])
    assert _local(two, None, 10) == (None, ["the client trains with adam, which is not replayed"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client": 8}, "client 8 is not in the recording; its clients are else, 7"),
        ({"client": 7, "round": 1}, "client 7 took no part; its clients are else"),
        ({"client": 7, "model": None}, "expected a model"),
        ({"client": 7, "input_shape": None}, "expected input_shape, which the recording does not say"),
        ({"client": 7, "input_shape": (36,)}, "expected channels, height, width"),
        ({"client": 7, "inversion": "decopled"}, "did you mean 'decoupled'"),
        ({"client": 7, "inversion": "feature_inversion"}, "inverts what FedGKT exchanges"),
        ({"client": "else", "round": 1}, "expected batch_size"),
        ({"client": 7, "originals": IMAGES[0]}, "expected 1 images of shape"),
    ],
)
def test_what_cannot_be_inverted(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    seen = recorded(tmp_path / "seen")
    with pytest.raises(InputError, match=message):
        fedsec.invert_recorded(seen, **{"inversion": "labels", "model": network(), **KNOWN, **arguments})


def test_the_command_writes_pictures(tmp_path: Path) -> None:
    # The network is fedsec's own, so that the recording can say which.
    model = logistic()
    loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
    names = [name for name, _ in model.named_parameters()]
    rows = dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    about = {"model": "logistic", "input_shape": [1, 6, 6], "num_classes": 10}
    with record(tmp_path / "seen", reference=model, holds="gradients", local={"lr": 0.1}, about=about) as recording:
        recording.round(sent=model, received={7: rows}, num_examples=[1])
    arguments = ["replay", str(tmp_path / "seen"), "--inversion", "{name: dlg, iterations: 2}", "--client", "7"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "dlg(iterations=2) on what client 7 sent in round 1: 1 image" in done.stdout
    assert "no originals were given" in done.stdout
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"recovered.png", "recovered.safetensors", "replay.json"}
    assert json.loads((tmp_path / "out" / "replay.json").read_text())["leak"]["client"] == 7
    for wrong, message in (
        (["--inversion", "labels"], "expected --client ID"),
        (["--client", "7"], "expected --inversion NAME"),
    ):
        failed = CliRunner().invoke(app, ["replay", str(tmp_path / "seen"), *wrong])
        assert failed.exit_code == 2
        assert message in failed.output


def logistic() -> nn.Module:
    from fedsec.models import build

    torch.manual_seed(0)
    return build("logistic", (1, 6, 6), 10)


class Witness(Inversion):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def recover(self, observations: Any, *, generator: torch.Generator, watch: Any) -> list[Reconstruction]:
        self.seen.extend(observations)
        return [Reconstruction(None, None) for _ in observations]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"algorithm": "async"}, "clients of async begin with older models"),
        ({"algorithm": "scaffold"}, "a client of scaffold sends depends on more than the model"),
        ({"algorithm": "fedper"}, "does not say which layers fedper left with its clients"),
        ({"algorithm": "local_sgd", "buffers": "keep"}, "began with momentum of earlier rounds"),
    ],
)
def test_a_recording_that_does_not_tell_what_clients_did_is_refused(
    tmp_path: Path, about: dict[str, Any], message: str
) -> None:
    seen = recorded(tmp_path / "seen", "updates", **about)
    with pytest.raises(InputError, match=message):
        fedsec.invert_recorded(seen, client=7, inversion=Witness(), model=network(), **KNOWN)


def test_layers_that_stayed_at_home_are_no_part_of_a_recorded_update(tmp_path: Path) -> None:
    home = ["3.bias", "3.weight"]
    seen = recorded(tmp_path / "seen", "updates", algorithm="fedper", at_home=home)
    witness = Witness()
    local = {"steps": 2}
    fedsec.invert_recorded(seen, client=7, inversion=witness, model=network(), local=local, **KNOWN)
    (observation,) = witness.seen
    assert sorted(observation.update) == ["1.bias", "1.weight"]
    assert list(observation.unsent) == home
    rep = recorded(tmp_path / "rep", "updates", algorithm="fedrep", at_home=home)
    fedsec.invert_recorded(rep, client=7, inversion=witness, model=network(), local=local, **KNOWN)
    assert witness.seen[1].unsent == ()


def test_smoothed_labels_and_cut_steps_are_replayed_as_recorded(tmp_path: Path) -> None:
    seen, witness = recorded(tmp_path / "seen", "updates"), Witness()
    local = {"steps": 2, "clip_norm": 0.5, "label_smoothing": 0.1}
    fedsec.invert_recorded(seen, client=7, inversion=witness, model=network(), local=local, **KNOWN)
    assert witness.seen[0].local == LocalSteps(0.1, 2, clip_norm=0.5)
    assert witness.seen[0].loss.smoothing == 0.1
