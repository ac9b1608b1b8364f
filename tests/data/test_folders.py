"""Image folders: order, shapes, everything that can be wrong with one, and the cache of decoded pixels."""

import logging
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fedsec.data import load
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


def test_names_in_any_bytes_are_read_and_shown_without_harm(tmp_path: Path) -> None:
    latin = os.fsdecode(b"\xe9t\xe9")
    for split in ("train", "test"):
        for name in (latin, "a\x1b[2Jb", "plain"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (2, 2)).save(tmp_path / split / name / f"{latin}.png")
    dataset = load("image_folder", tmp_path)
    assert dataset.classes == ("a\\x1b[2Jb", "plain", "\\xe9t\\xe9")
    "".join(dataset.classes).encode("ascii")
    (tmp_path / "test" / "a\x1b[2Jb" / f"{latin}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"unreadable image .*a\\x1b\[2Jb/\\xe9t\\xe9\.png") as caught:
        load("image_folder", tmp_path)
    assert "\x1b" not in str(caught.value)


def test_two_forms_of_one_name(write_images: Write, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    root = write_images(tmp_path / "own", (composed, "zebra", "apple"))
    (root / "test" / composed).rename(root / "test" / decomposed)
    dataset = load("image_folder", root)
    assert dataset.classes == ("apple", composed, "zebra")
    # write_images numbers the classes in the order given, and adds 100 in test/.
    assert dataset.train.images[:, 0, 0, 0].tolist() == [20, 21, 0, 1, 10, 11]
    assert dataset.test.images[:, 0, 0, 0].tolist() == [120, 121, 100, 101, 110, 111]
    assert any("differ in Unicode form only are joined" in note for note in dataset.notes)
    (root / "train" / decomposed).mkdir()
    with pytest.raises(DataError, match=r"train: class folders 'cafe\\u0301' and 'caf\\xe9' look the same"):
        load("image_folder", root)


def test_what_is_passed_over_is_counted_and_said(
    write_images: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_images(tmp_path / "own", ("a", "b"))
    folder = root / "train" / "a"
    (folder / "more").mkdir()
    for name in ("x.png", "y.png"):
        Image.new("L", (9, 9)).save(folder / "more" / name)
    (folder / "more" / "up").symlink_to(folder)  # a circle
    (folder / "gone.png").symlink_to(root / "nowhere.png")
    (folder / "round.png").symlink_to(folder / "round.png")
    (folder / "image.heic").write_bytes(b"")
    os.mkfifo(folder / "pipe.png")
    Image.new("L", (9, 9)).save(root / "test" / "beside.png")
    (folder / "Thumbs.db").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        dataset = load("image_folder", root)
    assert len(dataset.train) == 4
    said = [
        "2 image(s) in folders inside class folders, such as train/a/more/x.png",
        "2 link(s) to nowhere, such as train/a/gone.png",
        "1 file(s) that do not end like an image, such as train/a/image.heic",
        "1 pipe(s), device(s) or the like, such as train/a/pipe.png",
        "1 image(s) outside of class folders, such as test/beside.png",
    ]
    assert sorted(dataset.notes) == sorted(f"{root}: passed over {text}" for text in said)
    assert all(text in caplog.text for text in said)
    for path in folder.glob("[01].png"):
        path.unlink()
    with pytest.raises(DataError, match=r"train/a holds no image; .*; it holds .*2 image\(s\) in folders inside class"):
        load("image_folder", root)


def test_val_in_place_of_test(write_images: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images(tmp_path / "own", 10, (8, 8))
    assert load("image_folder", root).notes == ()
    (root / "test").rename(root / "val")
    dataset = load("image_folder", root)
    assert len(dataset.test) == 20
    assert dataset.notes == (f"{root}: there is no test/; val/ is taken for it",)
    monkeypatch.setenv("FEDSEC_DATA", str(root))
    assert load("digits", root).source == str(root)
    write_images(root, 10, (8, 8))
    assert load("image_folder", root).notes == (f"{root}: val/ is not used, test/ is",)


def test_a_folder_that_is_a_circle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for split in ("train", "test"):
        (tmp_path / "own" / split).symlink_to(tmp_path / "own" / split)
    with pytest.raises(DataError, match="image_folder was not found"):
        load("image_folder", tmp_path / "own")
