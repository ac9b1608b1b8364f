"""Datasets are looked at once, before any worker is."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from fedsec.cli.commands import app
from fedsec.errors import DataError, InputError
from fedsec.runs.datasets import look
from fedsec.scenario import load_scenario


class NoWorkers:
    """An executor that must not be needed."""

    def __enter__(self) -> "NoWorkers":
        raise AssertionError("the run came as far as its workers")

    def __exit__(self, *_: object) -> None: ...


def images(root: Path, classes: int = 2, size: int = 8, number: int = 30) -> Path:
    """An image folder."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(classes):
            folder = root / split / f"class {label}"
            folder.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(rng.integers(256, size=(size, size), dtype=np.uint8)).save(folder / f"{index}.png")
    return root


def own(root: Path) -> tuple[str, ...]:
    """Overrides that take an image folder."""
    return f"dataset={{name: image_folder, root: {root}}}", "federation.rounds=2"


def test_missing_data_is_found_once_before_any_worker(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSEC_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    overrides = ["dataset={name: cifar10, download: false}"]
    with pytest.raises(DataError, match="cifar10 was not found") as caught:
        tiny.run(tmp_path, *overrides, executor=NoWorkers())
    assert str(caught.value).count("cifar10 was not found") == 1
    command = ["run", str(tiny.file(tmp_path)), "--dry-run", "--set", overrides[0]]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 2
    assert shown.output.count("cifar10 was not found") == 1


def test_a_dry_run_says_what_a_run_will_download(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSEC_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    datasets = look(load_scenario(tiny.file(tmp_path), ["dataset=cifar10"]))
    assert datasets.notes == ("cifar10 is not here yet: a run downloads it",)


def test_broken_folders_are_found_before_any_worker(tmp_path: Path, tiny: Any) -> None:
    root = images(tmp_path / "images")
    Image.new("L", (9, 9)).save(root / "train" / "class 1" / "0.png")
    with pytest.raises(DataError, match="one shape"):
        tiny.run(tmp_path, *own(root), executor=NoWorkers())
    with pytest.raises(DataError, match="class"):
        tiny.run(tmp_path, *own(images(tmp_path / "single", classes=1)), executor=NoWorkers())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("matrix.attack=[none, {name: label_flip, mode: pair, source: class 0, target: class 7, fraction: 0.4}]",
         "matrix.attack[1] (from --set): image_folder: unknown class 'class 7'; known: class 0, class 1"),
        ("matrix.attack=[none, {name: label_flip, mode: pair, source: 0, target: 7, fraction: 0.4}]",
         "classes are numbered 0..1, got 7"),
        ("partition={name: iid, clients: 1000000}", "60 examples are too few for 1000000 clients"),
        ("dataset.train_size=61", "dataset.train_size (from --set): image_folder has 60 examples, got 61"),
        ("dataset.test_size=61", "dataset.test_size (from --set): image_folder has 60 examples, got 61"),
    ],
)  # fmt: skip
def test_what_the_dataset_has_not_is_said_once_before_any_worker(
    tmp_path: Path, tiny: Any, override: str, said: str
) -> None:
    overrides = (*own(images(tmp_path / "images")), override)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        tiny.run(tmp_path, *overrides, executor=NoWorkers())
    assert len(str(caught.value).splitlines()) == 1
    command = ["run", str(tiny.file(tmp_path)), "--dry-run", *(part for one in overrides for part in ("--set", one))]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 2
    assert said in " ".join(shown.output.split())


def test_sizes_of_a_dataset_that_is_not_here_are_known(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSEC_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="50000 examples are too few for 60000 clients"):
        look(load_scenario(tiny.file(tmp_path), ["dataset=cifar10", "partition={clients: 60000}"]))


def test_other_images_in_the_same_place_are_run_again(tmp_path: Path, tiny: Any) -> None:
    root = images(tmp_path / "images")
    first = tiny.run(tmp_path, *tiny.one, *own(root))
    (result,) = first.root.glob("*/result.json")
    before = result.stat().st_mtime_ns

    assert tiny.run(tmp_path, *tiny.one, *own(root)).failures == 0
    assert result.stat().st_mtime_ns == before, "the same images are no reason"

    for path in sorted((root / "train" / "class 0").iterdir())[:5]:
        Image.new("L", (8, 8), 255).save(path)
    console = Console(record=True, file=io.StringIO(), width=200)
    kept = tiny.run(tmp_path, *tiny.one, *own(root), keep=True)
    assert result.stat().st_mtime_ns == before
    assert kept.records[0]["metrics"] == first.records[0]["metrics"]
    tiny.run(tmp_path, *tiny.one, *own(root), console=console)
    assert result.stat().st_mtime_ns > before
    assert "other data than now" in console.export_text()


def test_a_scenario_may_be_a_mapping(tmp_path: Path, tiny: Any, long_cell: Path) -> None:
    import yaml

    content = yaml.safe_load(tiny.file(tmp_path).read_text())
    content["matrix"] = {"attack": ["none"], "defense": ["mean"]}
    from fedsec.runs import InProcess, run

    result = run(content, out=tmp_path, device="cpu", executor=InProcess())
    assert tiny.numbers(result.root) == tiny.numbers(long_cell)


@pytest.mark.parametrize("root", ["~nobody/images", "n" * 5000, "a/" * 3000, "images\\0"])
def test_a_root_that_cannot_be_is_bad_input(tmp_path: Path, tiny: Any, root: str) -> None:
    """On the way to its message nothing raises what only a programmer understands."""
    with pytest.raises(InputError):
        tiny.run(tmp_path, f'dataset={{name: image_folder, root: "{root}"}}', executor=NoWorkers())
