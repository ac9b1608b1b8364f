"""CINIC-10: an archive made up in the published layout, fetched, unpacked, and found in a folder."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsec.data import load
from fedsec.data.sources import cinic
from fedsec.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        for name in CLASSES:
            folder = tmp_path / "made" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{split}-1.png")
    (tmp_path / "made" / "README.md").write_text("as in the archive")
    path = tmp_path / "CINIC-10.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for entry in sorted((tmp_path / "made").iterdir()):
            tar.add(entry, entry.name)
    return path


def test_fetched_and_unpacked(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDSEC_DATA", raising=False)

    def served(urls: list[str], target: Path, md5: str, progress: object) -> None:
        assert [url.rpartition("/")[2] for url in urls] == ["CINIC-10.tar.gz"] * 2
        assert md5 == "6ee4d0c996905fe93221de577967a372"
        target.write_bytes(archive.read_bytes())

    monkeypatch.setattr(cinic, "download", served)
    data = load("cinic10")
    assert (data.classes, len(data.train), len(data.test), data.input_shape) == (CLASSES, 10, 10, (3, 32, 32))


@pytest.mark.parametrize("inside", ["", "CINIC-10"])
def test_found_where_the_archive_was_unpacked(archive: Path, tmp_path: Path, inside: str) -> None:
    (tmp_path / "here" / inside).mkdir(parents=True)
    cinic.unpack(archive, tmp_path / "here" / inside)
    data = load("cinic10", tmp_path / "here")
    assert (data.source, len(data.train)) == (str(tmp_path / "here" / inside), 10)


def test_a_corrupt_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"CINIC-10\.tar\.gz is corrupt"):
        cinic.unpack(archive, tmp_path / "here")
