"""Image folders: order, shapes, everything that can be wrong with one, and the cache of decoded pixels."""

import io
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedsec.data import folders, load
from fedsec.errors import DataError

Write = Callable[..., Path]


def test_labels_number_the_class_folders_alphabetically(write_images: Write, tmp_path: Path) -> None:
    root = write_images(tmp_path / "own", ("pear", "10", "apple", "2"), shape=(4, 6, 3))
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "apple" / "notes.txt").write_text("not an image")
    (root / "train" / "apple" / ".DS_Store").write_text("not an image")
    (root / "train" / "apple" / "._0.png").write_text("not an image")
    dataset = load("image_folder", root)
    assert dataset.classes == ("10", "2", "apple", "pear")
    assert dataset.input_shape == (3, 4, 6)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # write_images numbers the classes in the order given: "10" is 1, "2" is 3, "apple" is 2, "pear" is 0.
    assert dataset.train.images[:, 0, 0, 0].tolist() == [10, 11, 30, 31, 20, 21, 0, 1]
    assert dataset.test.images[:, 2, 3, 5].tolist() == [110, 111, 130, 131, 120, 121, 100, 101]
    assert dataset.source == str(root)


def test_pixels_against_pillow_for_every_kind_of_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    gray = color[..., 0]
    for mode, image, expected in (
        ("RGB", Image.fromarray(color), color),
        ("L", Image.fromarray(gray), gray[..., None]),
        ("1", Image.fromarray(gray > 127), np.where(gray > 127, 255, 0)[..., None]),
        ("P", Image.fromarray(color).quantize(200), None),
    ):
        path = tmp_path / f"{mode}.png"
        image.save(path)
        pixels = folders.decode(str(path))
        if expected is None:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(pixels, expected.transpose(2, 0, 1)), mode


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "CMYK", "F"])
def test_pixels_that_would_silently_lose_something_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode in ("CMYK", "F") else "image.png")
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(DataError, match=f"image.*{path.name} has pixels of kind '{mode}'; expected 8-bit gray or RGB"):
        folders.decode(str(path))


def no_test(root: Path) -> None:
    for path in sorted((root / "test").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "test").rmdir()


def no_classes(root: Path) -> None:
    no_test(root)
    (root / "test").mkdir()


def empty_class(root: Path) -> None:
    for path in (root / "train" / "b").iterdir():
        path.unlink()


def no_images_in_class(root: Path) -> None:
    for path in (root / "train" / "b").iterdir():
        path.rename(path.with_suffix(".txt"))


def other_classes(root: Path) -> None:
    (root / "test" / "b").rename(root / "test" / "bb")


def truncated(root: Path) -> None:
    path = root / "train" / "b" / "1.png"
    path.write_bytes(path.read_bytes()[:40])


def empty_file(root: Path) -> None:
    (root / "train" / "b" / "1.png").write_bytes(b"")


def not_an_image(root: Path) -> None:
    (root / "test" / "b" / "0.png").write_text("hello")


def other_size(root: Path) -> None:
    Image.new("L", (28, 27)).save(root / "train" / "b" / "1.png")


def other_channels(root: Path) -> None:
    Image.new("RGB", (28, 28)).save(root / "train" / "b" / "1.png")


def other_test_size(root: Path) -> None:
    for path in (root / "test").glob("*/*"):
        Image.new("L", (14, 14)).save(path)


def one_class(root: Path) -> None:
    for part in ("train", "test"):
        for path in (root / part / "b").iterdir():
            path.unlink()
        (root / part / "b").rmdir()


def link_to_nowhere(root: Path) -> None:
    (root / "train" / "b" / "1.png").unlink()
    (root / "train" / "b" / "0.png").unlink()
    (root / "train" / "b" / "1.png").symlink_to(root / "gone.png")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_test, r"own is incomplete: it lacks test/; expected an image folder"),
        (no_classes, r"own/test holds no class folders; expected test/<class>/<image>"),
        (empty_class, r"class folder .*own/train/b holds no image; expected files ending in"),
        (no_images_in_class, r"class folder .*own/train/b holds no image"),
        (link_to_nowhere, r"class folder .*own/train/b holds no image"),
        (other_classes, r"must hold the same classes; only in train/: b; only in test/: bb"),
        (truncated, r"unreadable image .*own/train/b/1\.png"),
        (empty_file, r"unreadable image .*own/train/b/1\.png"),
        (not_an_image, r"unreadable image .*own/test/b/0\.png"),
        (other_size, r"one shape.*train/a/0\.png is 1x28x28, .*train/b/1\.png is 1x27x28"),
        (other_channels, r"one shape.*is 1x28x28, .*train/b/1\.png is 3x28x28"),
        (other_test_size, r"training images are 1x28x28, test images 1x14x14"),
        (one_class, r"at least two classes are needed, got 1"),
    ],
)
def test_damage_is_named(write_images: Write, tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    root = write_images(tmp_path / "own", ("a", "b"))
    load("image_folder", root)
    damage(root)
    with pytest.raises(DataError, match=says):
        load("image_folder", root)


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "ppm", "webp"])
def test_no_malformed_file_ends_in_another_exception(tmp_path: Path, kind: str) -> None:
    rng = random.Random(0)
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(buffer, kind)
    whole = buffer.getvalue()
    path = tmp_path / f"image.{kind}"
    refused = 0
    for trial in range(100):
        content = bytearray(whole)
        if trial % 2:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(3):
                content[rng.randrange(min(len(content), 60))] = rng.randrange(256)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                folders.decode(str(path))
            except DataError:
                refused += 1
    assert refused > 20


def test_large_folder_is_decoded_once(
    write_images: Write, tmp_path: Path, empty_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "CACHED_FROM", 4)
    root = write_images(tmp_path / "own", ("a", "b"))
    first = load("image_folder", root)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "decode_all", lambda paths: pytest.fail("decoded again"))
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
    monkeypatch.setattr(folders, "CACHED_FROM", 4)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert len(load("image_folder", write_images(tmp_path / "own", ("a", "b"))).train) == 4
