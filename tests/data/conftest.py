"""What the tests of the data package share: an empty world, and small files in each published format."""

import gzip
import io
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsec.data import DATASETS, status

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# Taken before any test hides it: where this machine has the real data.
REAL = {entry.name: entry.where for entry in status()}


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Gives the folder of a real dataset, or skips the test and says what is missing."""

    def locate(name: str) -> Path:
        where = REAL[name]
        if where is None:
            pytest.skip(f"{name} is not on this machine; {DATASETS[name].how_to_get}")
        return Path(where)

    return locate


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


class Web:
    """Stands in for the network: each address gives bytes, or fails after some of them."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, BaseException | None]] = {}
        self.asked: list[str] = []

    def urlopen(self, request: urllib.request.Request, timeout: float) -> "Response":
        assert timeout > 0
        self.asked.append(request.full_url)
        if request.full_url not in self.pages:
            raise urllib.error.URLError("Name or service not known")
        return Response(*self.pages[request.full_url])


class Response(io.BytesIO):
    def __init__(self, content: bytes, failure: BaseException | None) -> None:
        super().__init__(content)
        self.failure = failure
        self.status = 200
        self.headers = {"Content-Length": str(len(content) + (1 if failure else 0))}

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if not block and self.failure is not None:
            raise self.failure
        return block


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    web = Web()
    monkeypatch.setattr("urllib.request.urlopen", web.urlopen)
    return web


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
