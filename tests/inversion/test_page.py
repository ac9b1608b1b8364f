"""The page of an inversion: what its files hold, and the command that asks for it again."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.data.normalization import Normalization
from fedsec.errors import InputError
from fedsec.inversion import result as writing
from fedsec.inversion import run as running
from fedsec.inversion.command import command_of
from fedsec.inversion.page import inversion_html, inversion_page, loss_tensors
from fedsec.inversion.settings import InversionSettings
from fedsec.report.page import Code, DataTable, Drawing, ImageGrid, PageSection, Paragraph

runner = CliRunner()
HOSTILE = "<script>alert(1)</script>"


def image(psnr: float, right: bool | None, caption: str = HOSTILE) -> dict[str, Any]:
    return {
        "caption": caption,
        "psnr": psnr,
        "psnr_gray": 7.5,
        "psnr_mean_image": None,
        "ssim": 0.5,
        "label_right": right,
    }


CONTENT: dict[str, Any] = {
    "inversion": "dlg",
    "model": "mlp",
    "batch_size": 2,
    "command": "fedsec invert --seed 3",
    "config": {"seed": 3, "model": HOSTILE},
    "metrics": {
        "psnr": 15.0,
        "psnr_gray": 7.5,
        "psnr_mean_image": 9.25,
        "ssim": 0.5,
        "ssim_gray": 0.125,
        "label_accuracy": 0.5,
        "model_accuracy": None,
    },
    "images": [image(10.0, False, "dog"), image(20.0, True)],
    "seconds": 1.5,
    "iterations": 3,
    "interrupted": False,
    "verdict": "1 of 2 images is recognizable: PSNR up to 10.8 dB above something.",
    "knowledge": {"labels": False},
    "given": "the attacker has the model and one gradient over 2 images; no labels",
    "measured_with": {"ssim_window": 7, "lpips": None},
    "mean_image": "the mean of digits's training images",
    "source": "digits",
    "notes": [HOSTILE],
    "device": "cpu",
    "versions": {"fedsec": "0"},
    "threads": 1,
    "files": ["result.json", "tensors.safetensors"],
}
SHADES = torch.tensor([0.2, 0.6]).reshape(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4).contiguous()
TENSORS = {
    "originals": torch.zeros(1, 2, 1, 4, 4),
    "reconstructions": SHADES,
    **loss_tensors([torch.tensor([4.0, 2.0, 1.0])], [3]),
}


def sections(content: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, PageSection]:
    return {section.anchor: section for section in inversion_page(content, tensors).sections}


def parts(section: PageSection, kind: type) -> list[Any]:
    return [part for part in section.parts if isinstance(part, kind)]


def test_the_page_tells_what_the_files_hold() -> None:
    page = sections(CONTENT, TENSORS)
    assert list(page) == ["answer", "images", "loss", "question", "environment"]
    first, granted, note = parts(page["answer"], Paragraph)
    assert first.text.startswith(CONTENT["verdict"])
    assert (
        "PSNR is 15.0 dB, where a gray image would have 7.5 dB and the mean of digits's training images 9.2"
        in first.text
    )
    assert "The labels were inferred: 50% of them are right." in first.text
    assert granted.text == "The attacker has the model and one gradient over 2 images; no labels."
    assert note.text == HOSTILE
    (grid,) = parts(page["images"], ImageGrid)
    assert [photo.caption for _, photos in grid.rows for photo in photos] == [
        f"{HOSTILE}, 20.0 dB (gray 7.5), SSIM 0.50, label right",
        "dog, 10.0 dB (gray 7.5), SSIM 0.50, label wrong",
    ]
    assert grid.caption.endswith("share it as you would share them.")
    (table,) = parts(page["images"], DataTable)
    assert [column.title for column in table.columns] == ["image", "PSNR (dB)", "gray (dB)", "SSIM", "label"]
    assert [cell.text for cell in table.rows[1]] == ["dog", "10.0", "7.5", "0.500", "wrong"]
    (drawing,) = parts(page["loss"], Drawing)
    assert "from 4 to 1" in drawing.description
    (code,) = parts(page["question"], Code)
    assert code.text == CONTENT["command"]


@pytest.mark.parametrize(("granted", "how"), [(True, "were granted"), (False, "were inferred")])
def test_it_says_whether_labels_were_granted(granted: bool, how: str) -> None:
    answer = sections({**CONTENT, "knowledge": {"labels": granted}}, TENSORS)["answer"]
    text = " ".join(part.text for part in answer.parts if isinstance(part, Paragraph))
    assert f"The labels {how}: 50% of them are right." in text


def test_labels_alone_and_results_of_earlier_versions_have_a_page_too() -> None:
    old = {name: value for name, value in CONTENT.items() if name != "command"}
    metrics = {"psnr": None, "label_accuracy": 1.0}
    page = sections({**old, "images": [], "metrics": metrics}, {"originals": TENSORS["originals"]})
    assert list(page) == ["answer", "question", "environment"]
    assert not parts(page["question"], Code)


def test_the_page_is_written_anew_from_the_files(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "tensors.safetensors")
    (tmp_path / "result.json").write_text(json.dumps(CONTENT))
    (tmp_path / "report.html").write_text("mine")
    done = runner.invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    html = (tmp_path / "report.html").read_text()
    assert html == inversion_html(tmp_path)
    assert HOSTILE not in html
    assert [path.read_text() for path in tmp_path.glob("report*") if path.name != "report.html"] == ["mine"]
    assert json.loads((tmp_path / "result.json").read_text())["files"][0] == "report.html"
    (tmp_path / "tensors.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="results of its inversion cannot be read"):
        inversion_html(tmp_path)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"inversion": "dlg", "iterations": 3, "labels": True, "seed": 4, "classes": "same", "gif": True},
        {"inversion": "dlg", "inversion_options": {"restarts": 2}, "dataset": "digits", "model": "mlp"},
        {"model": "mlp", "model_options": {"hidden": [8, 4]}, "local_steps": 2, "local_lr": 0.5},
        {"defense": ({"name": "prune", "ratio": 0.9}, "sign"), "defense_known": False, "out": Path("a b")},
        {"normalization": Normalization((0.5,), (0.25,)), "client_mode": "eval", "bn_statistics": "none"},
        {"images": (Path("one.png"), Path("two.png")), "image_size": 16, "num_classes": 3, "batch_size": 2},
    ],
)
def test_the_command_asks_for_the_same(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):  # noqa: N818  (it is no error)
        pass

    def stop(settings: InversionSettings, **_: Any) -> None:
        raise Asked(settings)

    monkeypatch.setattr(running, "run", stop)
    settings = InversionSettings(**asked)
    program, *words = shlex.split(command_of(settings))
    assert program == "fedsec"
    done = runner.invoke(app, words)
    assert isinstance(done.exception, Asked), done.output
    assert done.exception.args == (settings,)


def test_no_command_asks_for_objects() -> None:
    assert command_of(InversionSettings(model=torch.nn.Linear(2, 2))) == ""


def test_no_page_costs_an_inversion_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(writing, "inversion_page", fail)
    options = ("--inversion", "labels", "--dataset", "digits", "--model", "mlp", "--batch-size", "1")
    done = runner.invoke(app, ["invert", *options, "--out", str(tmp_path / "o")], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    assert "note: no page was made (ZeroDivisionError: by hand); fedsec report" in done.output
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["result.json", "tensors.safetensors"]
