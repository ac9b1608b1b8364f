"""Loading by name: where it looks and in which order, what it accepts, and what it says when it cannot."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsec.data import DATASETS, load, status
from fedsec.data.sources.idx import FashionMNIST
from fedsec.errors import DataError

Write = Callable[..., Path]


def test_order_of_places(write_idx: Write, tmp_path: Path, empty_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("FEDSEC_DATA", str(data))
    monkeypatch.setattr(FashionMNIST, "system_folders", (str(tmp_path / "system"),))
    root = tmp_path / "root"
    places = [
        root,
        root / "fashion_mnist",
        data / "fashion_mnist",
        data / "FashionMNIST" / "raw",
        data,
        empty_world / "fashion_mnist",
        tmp_path / "system",
    ]
    for place in places:
        write_idx(place)
    for place in places:
        assert load("fashion_mnist", root, download=False).source == str(place)
        if not place.is_relative_to(root):
            assert load("fashion_mnist", download=False).source == str(place)
            assert {entry.name: entry.where for entry in status()}["fashion_mnist"] == str(place)
        for file in place.glob("*.gz"):
            file.unlink()
    with pytest.raises(DataError, match="was not found") as caught:
        load("fashion_mnist", root, download=False)
    message = str(caught.value)
    asked = [root, root / "fashion_mnist", data / "fashion_mnist", data, empty_world / "fashion_mnist"]
    positions = [message.index(f"  {place} (") for place in [*asked, tmp_path / "system"]]
    assert positions == sorted(positions)
    for part in ("train-images-idx3-ubyte", "{train,test}/<class>/<image>", "apt-get install", "fedsec data fetch"):
        assert part in message


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("folder", [".", "MNIST/raw", "mnist", "mnist/MNIST/raw"])
def test_mnist_layouts(
    write_idx: Write, tmp_path: Path, idx_arrays: dict[str, np.ndarray], folder: str, compressed: bool
) -> None:
    write_idx(tmp_path / "root" / folder, compressed)
    dataset = load("mnist", tmp_path / "root", download=False)
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.classes == tuple("0123456789")
    for split, part in ((dataset.train, "train"), (dataset.test, "t10k")):
        assert split.images.is_contiguous()
        assert torch.equal(split.images[:, 0], torch.from_numpy(idx_arrays[f"{part}-images-idx3-ubyte"]))
        assert split.labels.tolist() == idx_arrays[f"{part}-labels-idx1-ubyte"].tolist()


def test_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mnist: root .*/nowhere is not a folder; expected one with train-images"):
        load("mnist", tmp_path / "nowhere")


@pytest.mark.parametrize("root", ["~nobody-of-this-name/data", "x" * 5000, "nul\0"])
@pytest.mark.parametrize("name", ["mnist", "image_folder", "digits"])
def test_root_that_no_folder_can_be(name: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=rf"{name}: root .* is not a folder; expected one with") as caught:
        load(name, Path(root), download=False)
    assert len(str(caught.value)) < 1000
    if "\0" not in root:
        monkeypatch.setenv("FEDSEC_DATA", root)
        assert not {entry.name: entry.present for entry in status()}["mnist"]


def test_root_that_holds_a_part(write_idx: Write, tmp_path: Path) -> None:
    write_idx(tmp_path / "root", skip=("t10k-images-idx3-ubyte",))
    with pytest.raises(DataError, match=r"root is incomplete: it lacks t10k-images-idx3-ubyte"):
        load("mnist", tmp_path / "root")


def test_a_part_elsewhere_is_passed_over_and_reported(
    write_idx: Write, tmp_path: Path, empty_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSEC_DATA", str(tmp_path / "data"))
    write_idx(tmp_path / "data" / "mnist", skip=("train-labels-idx1-ubyte",))
    with pytest.raises(DataError, match=r"FEDSEC_DATA/mnist\): incomplete, lacks train-labels-idx1-ubyte"):
        load("mnist", download=False)
    assert not {entry.name: entry.present for entry in status()}["mnist"]
    write_idx(empty_world / "mnist")
    assert load("mnist", download=False).source == str(empty_world / "mnist")


def test_root_without_the_dataset_is_not_passed_over_silently(
    write_idx: Write, tmp_path: Path, empty_world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "root").mkdir()
    write_idx(empty_world / "mnist")
    with caplog.at_level(logging.WARNING):
        load("mnist", tmp_path / "root", download=False)
    assert re.search(r"nothing of it lies in root .*root; using .*fedsec/mnist", caplog.text)


def test_unreadable_place_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("FEDSEC_DATA", str(tmp_path))
    monkeypatch.setattr(Path, "is_file", forbid)
    assert not {entry.name: entry.present for entry in status()}["mnist"]
    with pytest.raises(DataError, match="Permission denied"):
        load("mnist", download=False)


def test_fedsec_data_that_is_another_dataset_is_passed_over(
    write_idx: Write, write_images: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An image folder, recognized by its shape and number of classes.
    color = write_images(tmp_path / "color", 10, (32, 32, 3))
    monkeypatch.setenv("FEDSEC_DATA", str(color))
    present = {entry.name: entry.present for entry in status()}
    assert present["cifar10"]
    assert present["image_folder"]
    assert not present["mnist"]
    assert not present["cifar100"]
    assert load("cifar10", download=False).source == str(color)
    # MNIST's files have the same names as Fashion-MNIST's; they are told apart by the first labels.
    flat = write_idx(tmp_path / "flat", compressed=False)
    labels = flat / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:8] + bytes((5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7)) + bytes(14))
    monkeypatch.setenv("FEDSEC_DATA", str(flat))
    present = {entry.name: entry.present for entry in status()}
    assert present["mnist"]
    assert not present["fashion_mnist"]
    with pytest.raises(DataError, match="belongs to another dataset whose files have the same names"):
        load("fashion_mnist", flat)


@pytest.mark.parametrize(
    ("name", "classes", "shape"),
    [
        ("mnist", 10, (28, 28)),
        ("fashion_mnist", 10, (28, 28)),
        ("cifar10", 10, (32, 32, 3)),
        ("cifar100", 100, (32, 32, 3)),
        ("digits", 10, (8, 8)),
        ("photos", 8, (32, 32, 3)),
    ],
)
def test_image_folder_satisfies_any_name_if_it_has_its_shape(
    write_images: Write, tmp_path: Path, name: str, classes: int, shape: tuple[int, ...]
) -> None:
    dataset = load(name, write_images(tmp_path / "good", classes, shape, per_class=1), download=False)
    assert dataset.name == name
    assert dataset.classes[:2] == ("class000", "class001")
    assert len(dataset.train) == classes
    with pytest.raises(DataError, match=rf"{name}: .* holds 3 classes, expected {classes}"):
        load(name, write_images(tmp_path / "few", 3, shape, per_class=1))
    with pytest.raises(DataError, match=rf"{name}: images in .* are \dx9x9, expected .*nothing is resized silently"):
        load(name, write_images(tmp_path / "small", classes, (9, 9), per_class=1))


def test_a_folder_with_lookalikes_somewhere_else_disturbs_nobody(
    write_images: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("caf\u00e9", "cafe\u0301", *map(str, range(8)))
    monkeypatch.setenv("FEDSEC_DATA", str(write_images(tmp_path / "own", names)))
    assert not {entry.name: entry.present for entry in status()}["mnist"]
    with pytest.raises(DataError, match="look the same"):
        load("mnist", download=False)


def test_image_folder_by_environment_but_never_instead_of_its_root(
    write_images: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"(?s)image_folder was not found.*FEDSEC_DATA is not set.*dataset\.root"):
        load("image_folder")
    monkeypatch.setenv("FEDSEC_DATA", str(write_images(tmp_path / "own", 2, (5, 5))))
    assert load("image_folder").num_classes == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="image_folder was not found"):
        load("image_folder", tmp_path / "empty")


def test_unknown_name() -> None:
    with pytest.raises(DataError, match=r"unknown dataset 'fasion_mnist' \(did you mean 'fashion_mnist'\?\); known: "):
        load("fasion_mnist")
    with pytest.raises(DataError, match=r"unknown dataset 'qqq'; known: .*image_folder"):
        load("qqq")


def test_every_dataset_describes_itself() -> None:
    entries = status()
    assert [entry.name for entry in entries] == list(DATASETS)
    for entry in entries:
        assert DATASETS[entry.name].name == entry.name
        assert entry.description.endswith(".")
        assert len(entry.how_to_get) > 20
        assert entry.present == (entry.name in ("digits", "zero_digits", "photos", "diabetes", "shakespeare"))
        assert entry.looked_in or entry.name == "image_folder"


def test_status_and_listing_load_nothing_heavy() -> None:
    heavy = ("torch", "torchvision", "numpy", "sklearn", "skimage", "PIL", "jaxtyping", "safetensors")
    code = f"""
import sys
from fedsec.data.datasets import DATASETS, load, normalization, status
import fedsec.data
fedsec.data.status(); normalization("unit")
print(*(name for name in {heavy} if name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_missing_names_are_attribute_errors() -> None:
    import fedsec.data
    import fedsec.data.datasets

    for module in (fedsec.data, fedsec.data.datasets):
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            module.nonsense  # noqa: B018
