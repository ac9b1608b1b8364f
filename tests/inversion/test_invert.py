"""`fedsec.invert`: the command's result as an object, with the words of scenarios, and nothing printed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import fedsec
from fedsec.attacks import Labels
from fedsec.errors import InputError
from fedsec.inversion.preparation import paying_threads
from fedsec.inversion.run import run
from fedsec.inversion.settings import InversionSettings

pytestmark = pytest.mark.usefixtures("quick_attacks")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # no weights of LPIPS, wherever the test runs


class Logistic(nn.Module):
    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * 8 * 8, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


def pixels(count: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["bytes", "floats", "numpy", "one image"])
def test_images_and_a_module_of_ones_own(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    images: Any = pixels()
    images = {
        "bytes": images,
        "floats": images.double() / 255,
        "numpy": images.numpy(),
        "one image": images[0],
    }[kind]
    model = Logistic()
    before = model.linear.weight.detach().clone()
    result = fedsec.invert(images, [7], model=model, inversion="quotient")
    assert result.images is not None
    assert torch.allclose(result.images[0], pixels().float() / 255, atol=1e-3)
    assert torch.equal(result.originals, pixels()[None].float() / 255)
    assert result.labels is not None
    assert result.labels.tolist() == [[7]]
    assert result.metrics["psnr"] > 60
    assert result.verdict.startswith("The image is recognizable")
    assert "divided" in result.notes
    assert (result.root, result.files) == (None, ())
    assert repr(result).startswith("InversionResult(quotient on Logistic: The image is recognizable")
    assert torch.equal(model.linear.weight, before)
    assert capfd.readouterr() == ("", "")
    assert not list(Path().glob("**/*.png"))


def test_what_the_command_writes_is_what_is_returned() -> None:
    result = fedsec.invert(model="logistic", inversion="quotient", batch_size=1, seed=3, out="o")
    assert [path.name for path in result.files] == result.content["files"]
    assert all(path.exists() for path in result.files)
    assert json.loads(Path("o/result.json").read_text()) == json.loads(json.dumps(result.content))


def test_knowledge_and_local_training_in_the_words_of_scenarios() -> None:
    result = fedsec.invert(
        inversion="guess",
        knowledge={"labels": True, "bn_statistics": "none", "defense": False},
        local={"steps": 2, "lr": 0.05},
        defense={"name": "prune", "ratio": 0.5},
    )
    known = {"labels": True, "bn_statistics": "none", "defense": False, "auxiliary": 0}
    assert result.content["knowledge"] == known
    assert "2 local steps on 2 images made (learning rate 0.05, 2 a step" in result.content["given"]
    assert result.content["given"].endswith("which the attacker did not know")
    assert result.metrics["label_accuracy"] == 1


def test_an_inversion_that_is_an_object() -> None:
    result = fedsec.invert(dataset="digits", model="mlp", inversion=Labels(), batch_size=2)
    assert result.content["inversion"] == "Labels"
    assert result.images is None
    assert result.metrics["label_accuracy"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knowledge": {"label": True}}, r"knowledge.label: unknown key; expected labels, bn_statistics, defense"),
        ({"knowledge": {"bn_statistics": "known"}}, "--bn-statistics must be one of none, running, sent, batch"),
        ({"local": {"lr": 0.1}}, "local: expected steps"),
        ({"local": {"step": 1}}, "local.step: unknown key; expected steps, lr, batch_size"),
        ({"images": pixels(), "dataset": "digits"}, "images and dataset exclude each other"),
        ({"images": pixels().float()}, r"images: floating-point pixels must lie in \[0, 1\]"),
        ({"images": np.zeros((4, 4))}, r"images: expected \[images, channels, height, width\], got shape \(4, 4\)"),
        ({"images": object()}, "images: expected an array, a tensor or paths, got object"),
        ({"images": pixels(2), "labels": [1]}, "labels: expected 2 whole numbers of at least 0"),
        ({"images": "no.png", "labels": [1]}, "labels go with images that are arrays"),
        ({"images": "no.png"}, "no.png: no such file or folder"),
        ({"gif": True}, "gif: is written into a folder; expected out too"),
        ({"inversion": Labels(), "iterations": 3}, "iterations and restarts go with an inversion's name"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fedsec.invert(**options)


def test_a_model_with_another_number_of_logits_is_told_where_images_for_it_are() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(InputError, match=r"expected logits of shape \(2, 8\), got \(2, 10\).*photos: --dataset takes"):
        fedsec.invert(model=model, inversion="guess")
    with pytest.raises(InputError, match=r"got \(2, 7\).*; --num-classes says how many logits the model has"):
        fedsec.invert(pixels(), model=Logistic(7), inversion="guess")


@pytest.mark.parametrize("kind", ["lazy", "float64", "bfloat16"])
def test_models_that_are_not_plain_float32(kind: str) -> None:
    model: nn.Module = nn.Sequential(nn.Flatten(), nn.LazyLinear(10)) if kind == "lazy" else Logistic()
    model = model if kind == "lazy" else model.to(getattr(torch, kind))
    assert fedsec.invert(pixels(), [7], model=model, inversion=Labels()).metrics["label_accuracy"] == 1


def test_dropout_is_off_and_said_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10))
    results = [fedsec.invert(pixels(2), model=model, inversion=Labels()) for _ in range(2)]
    assert any("the model has dropout: client and attacker compute without it" in note for note in results[0].notes)
    assert results[0].content["images"] == results[1].content["images"]
    model[2].p = 0.0  # type: ignore[union-attr]
    assert not any("dropout" in note for note in fedsec.invert(pixels(2), model=model, inversion=Labels()).notes)


def test_one_thread_where_more_do_not_pay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 5, padding=2), nn.Flatten(), nn.LazyLinear(10))
    images = torch.rand(16, 3, 64, 64)
    model(images)

    def clock(alone: float, together: float) -> Any:
        time = [0.0]

        def read() -> float:
            time[0] += (alone if torch.get_num_threads() == 1 else together) / 2
            return time[0]

        return read

    assert paying_threads(model, images, 2, clock(1, 0.5)) == 2
    assert paying_threads(model, images, 2, clock(1, 0.9)) == 1
    assert paying_threads(model, images, 2, clock(1, 9)) == 1
    assert paying_threads(model, images, 1) == 1
    small = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    assert paying_threads(small, torch.rand(2, 3, 8, 8), 2, clock(1, 0.1)) == 1
    assert torch.get_num_threads() == 1


def test_names_of_files_steer_no_terminal(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "in\x1b]0;title"
    folder.mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "a\x1b]0;title.png")
    out = tmp_path / "o\x1b]0;title"
    console = Console(width=300, force_terminal=True)
    with console.capture() as capture:
        run(InversionSettings(inversion="static", images=(folder,), batch_size=1, out=out), console=console)
    assert "\x1b]" not in capture.get()
    assert capture.get().count("]0;title") >= 3
    for path in out.glob("*.json"):
        assert "\x1b" not in path.read_text()


def test_the_result_shows_itself_in_a_notebook() -> None:
    result = fedsec.invert(pixels(), [7], model=Logistic(), inversion="quotient")
    shown = result._repr_html_()
    assert f">{result.verdict}</p>" in shown
    assert "quotient on Logistic" in shown
    assert shown.count("data:image/png;base64,") == 1
    labels = fedsec.invert(pixels(), [7], model=Logistic(), inversion=Labels())
    assert "data:image" not in labels._repr_html_()
