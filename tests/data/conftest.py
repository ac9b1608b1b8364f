"""What the tests of the data package share: an empty world, and small files in each published format."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsec.data import DATASETS

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(autouse=True)
def empty_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees this machine's cache, system folders, environment or network; the cache lies in the path given."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a test tried to use the network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("FEDSEC_DATA", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for kind in DATASETS.values():
        monkeypatch.setattr(kind, "system_folders", ())
    return tmp_path / "xdg" / "fedsec"


@pytest.fixture(scope="session")
def idx_arrays() -> dict[str, np.ndarray]:
    """Contents of the four files of a small MNIST-like dataset: 30 + 20 images."""
    rng = np.random.default_rng(7)
    arrays = {}
    for part, number in (("train", 30), ("t10k", 20)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.permutation(np.arange(number) % 10).astype(np.uint8)
    return arrays


def idx_bytes(array: np.ndarray) -> bytes:
    """An array in IDX format, written independently of the reader under test."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def write_idx(idx_arrays: dict[str, np.ndarray]) -> Callable[..., Path]:
    """Writes the four files into a folder; `skip` leaves some out."""

    def write(folder: Path, compressed: bool = True, skip: tuple[str, ...] = ()) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in IDX_NAMES:
            if name not in skip:
                content = idx_bytes(idx_arrays[name])
                path = folder / (f"{name}.gz" if compressed else name)
                path.write_bytes(gzip.compress(content) if compressed else content)
        return folder

    return write


@pytest.fixture
def write_images() -> Callable[..., Path]:
    """Writes an image folder and returns it; pixel values tell split, class and number apart."""

    def write(
        folder: Path,
        classes: int | tuple[str, ...] = 10,
        shape: tuple[int, ...] = (28, 28),
        per_class: int = 2,
        suffix: str = ".png",
    ) -> Path:
        names = tuple(f"class{i:03d}" for i in range(classes)) if isinstance(classes, int) else classes
        for part, offset in (("train", 0), ("test", 100)):
            for label, name in enumerate(names):
                (folder / part / name).mkdir(parents=True, exist_ok=True)
                for number in range(per_class):
                    pixels = np.full(shape, (offset + 10 * label + number) % 256, np.uint8)
                    Image.fromarray(pixels).save(folder / part / name / f"{number}{suffix}")
        return folder

    return write
