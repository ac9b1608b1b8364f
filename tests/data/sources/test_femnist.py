"""Characters by writer, from LEAF's files."""

import json
from pathlib import Path

import pytest
import torch

from fedsec.data import load
from fedsec.errors import DataError


def write(folder: Path, pixels: list[float]) -> Path:
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        data = {f"f{writer}": {"x": [pixels, pixels], "y": [writer, 61]} for writer in range(3)}
        (folder / split / "all_data_0.json").write_text(json.dumps({"users": list(data), "user_data": data}))
    return folder


def test_writers_are_groups_and_pixels_are_bytes(tmp_path: Path) -> None:
    pixels = [1.0, 0.0, 0.5] + [1.0] * 781
    data = load("femnist", write(tmp_path, pixels))
    assert data.groups == ("f0", "f1", "f2")
    assert data.train.groups is not None
    assert data.train.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.images.shape == (6, 1, 28, 28)
    assert data.train.images[0, 0, 0, :4].tolist() == [255, 0, 128, 255]
    assert data.train.labels.tolist() == [0, 61, 1, 61, 2, 61]
    assert (data.classes[10], data.classes[61]) == ("A", "z")
    assert data.train.images.dtype == torch.uint8


@pytest.mark.parametrize(("pixels", "says"), [([1.0] * 783, "784 pixels"), ([1.5] * 784, r"pixels in 0\.\.1")])
def test_other_images_are_refused(tmp_path: Path, pixels: list[float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load("femnist", write(tmp_path, pixels))
