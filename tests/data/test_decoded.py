"""The cache of decoded pixels: used while nothing changes, never trusted, never needed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fedsec.data import decoded, load

Write = Callable[..., Path]


def test_large_folder_is_decoded_once(
    write_images: Write, tmp_path: Path, empty_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "CACHED_FROM", 4)
    root = write_images(tmp_path / "own", ("a", "b"))
    first = load("image_folder", root)
    with monkeypatch.context() as patch:
        patch.setattr(decoded, "decode_all", lambda paths: pytest.fail("decoded again"))
        second = load("image_folder", root)
    for part in ("train", "test"):
        assert torch.equal(getattr(first, part).images, getattr(second, part).images)
        assert torch.equal(getattr(first, part).labels, getattr(second, part).labels)
    second.train.images.zero_()  # what was loaded is the caller's own
    assert torch.equal(load("image_folder", root).train.images, first.train.images)

    # Each kind of change is noticed.
    changed = root / "train" / "b" / "1.png"
    Image.new("L", (28, 28), 77).save(changed)
    facts = changed.stat()
    os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))
    assert load("image_folder", root).train.images[3].eq(77).all()
    changed.rename(changed.with_name("x.png"))
    assert load("image_folder", root).train.images[3].eq(77).all()
    changed.with_name("x.png").unlink()
    assert len(load("image_folder", root).train) == 3
    assert len(list((empty_world / "decoded").iterdir())) == 1  # no growth with each change, nothing left over

    # A damaged cache costs time only.
    cached = next((empty_world / "decoded").iterdir())
    whole = cached.read_bytes()
    for damaged in (b"", b"garbage", whole[:-1], whole[:100]):
        cached.write_bytes(damaged)
        assert len(load("image_folder", root).train) == 3
        assert cached.read_bytes() == whole


def test_small_folder_is_not_cached(write_images: Write, tmp_path: Path, empty_world: Path) -> None:
    load("image_folder", write_images(tmp_path / "own", ("a", "b")))
    assert not empty_world.exists()


def test_unwritable_cache_does_not_matter(write_images: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "CACHED_FROM", 4)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert len(load("image_folder", write_images(tmp_path / "own", ("a", "b"))).train) == 4
