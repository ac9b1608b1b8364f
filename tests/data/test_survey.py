"""Looking at a dataset before anybody works with it: the same complaints as loading, the same fingerprint, once."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fedsec.data import check, decoded, load
from fedsec.data.sources.source import Source
from fedsec.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the datasets that are really loaded, in order."""
    names: list[str] = []
    load_whole = Source.load

    def counted(self: Source, *args: object, **options: object) -> object:
        names.append(self.name)
        return load_whole(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Source, "load", counted)
    return names


def test_it_says_what_loading_gives(write_idx: Write, tmp_path: Path) -> None:
    root = write_idx(tmp_path / "root")
    known, dataset = check("mnist", root), load("mnist", root)
    assert known.fingerprint == dataset.fingerprint
    assert (known.source, known.num_train, known.num_test) == (str(root), 30, 20)
    assert (known.input_shape, known.num_classes, known.notes) == ((1, 28, 28), 10, ())
    assert check("mnist", root) == known  # from the cache
    assert check("diabetes").num_classes == 0


def test_a_large_dataset_is_read_once_until_a_file_changes(
    write_idx: Write, write_images: Write, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "CACHED_FROM", 4)
    idx, images = write_idx(tmp_path / "idx"), write_images(tmp_path / "own", 10, (28, 28))
    for name, root, changed in (
        ("mnist", idx, idx / "t10k-labels-idx1-ubyte.gz"),
        ("image_folder", images, images / "test" / "class003" / "1.png"),
        ("fashion_mnist", images, images / "train" / "class003" / "1.png"),
    ):
        loads.clear()
        first = check(name, root)
        assert check(name, root) == first
        assert loads == [name]
        facts = changed.stat()
        if changed.suffix == ".png":
            Image.new("L", (28, 28), 201).save(changed)
        else:
            changed.write_bytes(changed.read_bytes())
        os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))
        second = check(name, root)
        assert loads == [name] * 2
        assert (second.fingerprint == first.fingerprint) == (changed.suffix == ".gz")  # the content decides


def test_a_small_folder_is_always_read(write_images: Write, tmp_path: Path) -> None:
    root = write_images(tmp_path / "own", ("a", "b"))
    first = check("image_folder", root)
    changed = root / "train" / "a" / "0.png"
    facts = changed.stat()
    pixels = bytearray(changed.read_bytes())
    Image.new("L", (28, 28), 3).save(changed)
    os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert check("image_folder", root).fingerprint != first.fingerprint
    changed.write_bytes(pixels)
    assert check("image_folder", root).fingerprint == first.fingerprint


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'"text"', b"\xff", None])
def test_a_damaged_survey_is_made_anew(
    write_idx: Write, tmp_path: Path, empty_world: Path, loads: list[str], damage: bytes | None
) -> None:
    root = write_idx(tmp_path / "root")
    first = check("mnist", root)
    [kept] = (empty_world / "surveys").iterdir()
    record = json.loads(kept.read_bytes())
    record["survey"]["fingerprint"] = "0" * 32
    kept.write_bytes(json.dumps(record).encode() if damage is None else damage)
    assert check("mnist", root) == first
    assert loads == ["mnist"] * 2


def test_what_loading_refuses_is_refused(write_images: Write, tmp_path: Path) -> None:
    root = write_images(tmp_path / "own", ("a",))
    with pytest.raises(DataError, match="at least two classes are needed, got 1"):
        check("image_folder", root)
    root = write_images(tmp_path / "own", ("a", "b"))
    Image.new("L", (9, 9)).save(root / "train" / "b" / "9.png")
    with pytest.raises(DataError, match=r"must all have one shape.*b/9\.png is 1x9x9"):
        check("image_folder", root)
    with pytest.raises(DataError, match="unknown dataset"):
        check("nonsense")


def test_what_can_be_downloaded_may_be_absent(caplog: pytest.LogCaptureFixture) -> None:
    known = check("cifar10")
    assert (known.source, known.fingerprint) == (None, "")
    with pytest.raises(DataError, match="cifar10 was not found"):
        check("cifar10", download=False)
    with caplog.at_level(logging.WARNING):
        check("digits")
    assert caplog.text == ""
