"""A user's image files of every kind, and those that are none."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsec.errors import InputError
from fedsec.inversion.files import ImageFile, find, read


def noise(*shape: int, top: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(0, top, shape, dtype=np.uint16 if top > 256 else np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def one(path: Path, size: int = 8) -> tuple[np.ndarray, list[str]]:
    pixels, notes = read([ImageFile(path)], size)
    assert pixels.shape == (1, 3, size, size)
    return pixels[0].permute(1, 2, 0).numpy(), notes


def test_a_file_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = noise(8, 8, 3)
    assert (one(save(tmp_path / "a.png", pixels))[0] == pixels).all()
    assert one(tmp_path / "a.png")[1] == []


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    pixels = noise(8, 8)
    found, notes = one(save(tmp_path / "a.png", pixels))
    assert (found == pixels[..., None]).all()
    assert notes == ["converted to RGB: a.png (gray)"]


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    pixels = noise(8, 8, top=65536)
    found, notes = one(save(tmp_path / "a.png", pixels))
    assert (found == np.rint(pixels / 257)[..., None]).all()
    assert notes == ["converted to RGB: a.png (16-bit gray)"]


def test_transparency_shows_white(tmp_path: Path) -> None:
    pixels = noise(8, 8, 4)
    pixels[..., 3] = 0
    pixels[0, 0] = 10, 20, 30, 255
    found, notes = one(save(tmp_path / "a.png", pixels))
    assert found[0, 0].tolist() == [10, 20, 30]
    assert (found[1:] == 255).all()
    assert "transparency" in notes[0]


def test_a_large_one_is_cropped_and_averaged(tmp_path: Path) -> None:
    pixels = noise(16, 40, 3)
    found, notes = one(save(tmp_path / "a.png", pixels))
    square = pixels[:, 12:28].astype(float).reshape(8, 2, 8, 2, 3).mean((1, 3))
    assert np.abs(found - square).max() <= 1
    assert notes == ["1 of 1 image cropped to their central square", "1 of 1 image resized to 8x8 pixels"]
    assert one(save(tmp_path / "b.png", noise(5, 3, 3)))[0].shape == (8, 8, 3)


def test_photographs_stand_upright(tmp_path: Path) -> None:
    pixels = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    path = save(tmp_path / "a.png", pixels, exif=exif)
    assert (one(path)[0] == np.rot90(pixels, -1)).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=r"--images: unreadable image .*bad\.png"):
        read([ImageFile(tmp_path / "bad.png")], 8)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.png", noise(64, 64, 3))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"unreadable image .*cut\.png"):
        read([ImageFile(path)], 8)


def test_a_picture_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", noise(20, 20, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(InputError, match=r"unreadable image .*bomb\.png: .*300 pixels"):
        read([ImageFile(path)], 8)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif has floating-point pixels"):
        read([ImageFile(tmp_path / "a.tif")], 8)


def test_folders_files_and_class_folders(tmp_path: Path) -> None:
    for name in ("flat/b.png", "flat/a.JPG", "classes/dog/x.png", "classes/cat/y.png", "classes/cat/a.png"):
        save(tmp_path / name, noise(8, 8, 3), format="PNG")
    (tmp_path / "flat" / "notes.txt").write_text("passed over")
    flat = find([tmp_path / "flat", tmp_path / "flat" / "b.png"])
    assert [(file.path.name, file.label) for file in flat] == [("a.JPG", None), ("b.png", None), ("b.png", None)]
    classes = find([tmp_path / "classes"])
    assert [(file.path.name, file.label) for file in classes] == [("a.png", "cat"), ("y.png", "cat"), ("x.png", "dog")]
    with pytest.raises(InputError, match="either images in class folders or images without classes, not both"):
        find([tmp_path / "flat", tmp_path / "classes"])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--images .*nowhere: no such file or folder"):
        find([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"holds no image; expected files ending in \.bmp"):
        find([tmp_path])


def test_only_documented_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a program"))
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    with pytest.raises(InputError, match=r"--images: unreadable image .*photo\.jpg: it is none of BMP, GIF"):
        read([ImageFile(tmp_path / "photo.jpg")], 8)


def test_a_pipe_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png: it is no regular file"):
        read(find([tmp_path / "pipe.png"]), 8)


def test_color_of_16_bits_is_cut_and_said(tmp_path: Path) -> None:
    (tmp_path / "deep.ppm").write_bytes(b"P6 8 8 65535\n" + bytes((200, 7)) * 8 * 8 * 3)
    pixels, notes = read(find([tmp_path / "deep.ppm"]), 8)
    assert pixels.unique().tolist() == [round((200 * 256 + 7) / 257)]
    assert notes == ["converted to RGB: deep.ppm (16-bit color)"]


def test_names_that_steer_a_terminal_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J").mkdir()
    for number in range(2):
        Image.new("L", (8, 8)).save(tmp_path / "a\x1b[2J" / f"{number}\x07.png")
    found = find([tmp_path])
    assert {file.label for file in found} == {"a\\x1b[2J"}
    assert read(found, 8)[1] == ["converted to RGB: 0\\x07.png (gray), 1\\x07.png (gray)"]
