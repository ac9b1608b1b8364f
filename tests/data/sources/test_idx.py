"""IDX files: a round trip, every kind of damage, and the real Fashion-MNIST."""

import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedsec.data import load
from fedsec.data.sources.idx import read_idx
from fedsec.errors import DataError

Write = Callable[..., Path]


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@settings(deadline=None, max_examples=30)
@given(npst.arrays(np.uint8, npst.array_shapes(min_dims=1, max_dims=3, max_side=6)), st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool) -> None:
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if compressed else "a")
    path.write_bytes(gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array))
    found = read_idx(path, array.ndim)
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)
    found += 1  # writable: torch shares its memory


WHOLE = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file"),
        (WHOLE[:10], "not an IDX file"),
        (b"\x00\x00\x0d" + WHOLE[3:], "not an IDX file of unsigned bytes with 3 dimension"),
        (b"<html>" + WHOLE, "not an IDX file"),
        (idx_bytes(np.zeros(200, np.uint8)), "not an IDX file of unsigned bytes with 3 dimension"),
        (WHOLE[:-1], "promises 3x4x5 bytes, it holds 59"),
        (WHOLE + b"\x00", "it holds more"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + WHOLE, "expected at most 1,073"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_content(tmp_path: Path, content: bytes, says: str, compressed: bool) -> None:
    path = tmp_path / ("train-images-idx3-ubyte" + (".gz" if compressed else ""))
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert "get it again" in str(caught.value)


def test_every_truncation_and_every_damaged_byte_of_a_gz_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    whole = gzip.compress(idx_bytes(array), mtime=0)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=str(path)):
            read_idx(path, 3)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert np.array_equal(read_idx(path, 3), array)  # a byte of gzip's header that means nothing
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert 4 <= position < 10


@pytest.mark.parametrize("damage", ["truncated", "labels", "count", "label", "empty"])
def test_damage_in_a_dataset_is_named(write_idx: Write, tmp_path: Path, damage: str) -> None:
    root = write_idx(tmp_path / "root")
    images, labels = root / "train-images-idx3-ubyte.gz", root / "train-labels-idx1-ubyte.gz"
    if damage == "truncated":
        images.write_bytes(images.read_bytes()[:-1000])
        says = r"train-images-idx3-ubyte\.gz is unreadable, truncated or corrupt"
    elif damage == "labels":
        labels.write_bytes(b"not gzip")
        says = r"train-labels-idx1-ubyte\.gz is unreadable, truncated or corrupt"
    elif damage == "count":
        labels.write_bytes(gzip.compress(idx_bytes(np.zeros(29, np.uint8))))
        says = r"train-images-idx3-ubyte\.gz holds 30 images, but .*train-labels-idx1-ubyte\.gz holds 29 labels"
    elif damage == "label":
        labels.write_bytes(gzip.compress(idx_bytes(np.full(30, 10, np.uint8))))
        says = "training labels run from 10 to 10, but there are 10 classes"
    else:
        images.write_bytes(gzip.compress(idx_bytes(np.zeros((0, 28, 28), np.uint8))))
        labels.write_bytes(gzip.compress(idx_bytes(np.zeros(0, np.uint8))))
        says = "non-empty"
    with pytest.raises(DataError, match=says):
        load("mnist", root)


def test_wrong_image_size(write_idx: Write, tmp_path: Path) -> None:
    root = write_idx(tmp_path / "root")
    for part, number in (("train", 30), ("t10k", 20)):
        (root / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(idx_bytes(np.zeros((number, 32, 32), np.uint8)))
        )
    with pytest.raises(DataError, match=r"are 1x32x32, expected 1x28x28"):
        load("mnist", root)


def test_real_fashion_mnist(real_data: Callable[[str], Path]) -> None:
    dataset = load("fashion_mnist", real_data("fashion_mnist"), download=False)
    assert dataset.train.images.shape == (60_000, 1, 28, 28)
    assert dataset.test.images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(dataset.train.labels).tolist() == [6_000] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [1_000] * 10
    # The statistics that everybody quotes for it.
    pixels = dataset.train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3530, abs=5e-5)
    assert dataset.classes[int(dataset.train.labels[0])] == "Ankle boot"


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_is_taken_for_what_is_there_not_for_what_is_claimed(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / ("images.gz" if compressed else "images")
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, 1 << 10, 1 << 10, 1 << 10) + bytes(100)
    path.write_bytes(gzip.compress(content) if compressed else content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="promises 1024x1024x1024 bytes, it holds 100; delete"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_a_pipe_in_place_of_a_file_is_missing_not_endless(write_idx: Write, tmp_path: Path) -> None:
    root = write_idx(tmp_path / "root", compressed=False, skip=("train-labels-idx1-ubyte",))
    os.mkfifo(root / "train-labels-idx1-ubyte")
    with pytest.raises(DataError, match="incomplete: it lacks train-labels-idx1-ubyte"):
        load("mnist", root)
