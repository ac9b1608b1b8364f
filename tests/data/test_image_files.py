"""Image files: pixels as Pillow has them, and everything that is no documented image."""

import io
import os
import random
import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsec.data import image_files
from fedsec.errors import DataError


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
        pixels = image_files.decode(str(path))
        if expected is None:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(pixels, expected.transpose(2, 0, 1)), mode


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "F"])
def test_pixels_that_would_silently_lose_something_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode in ("CMYK", "F") else "image.png")
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(DataError, match=f"image.*{path.name} has pixels of kind '{mode}'; expected 8-bit gray or RGB"):
        image_files.decode(str(path))


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
                image_files.decode(str(path))
            except DataError:
                refused += 1
    assert refused > 20


def png(header: bytes, rows: bytes) -> bytes:
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def deep_png(path: Path, channels: int) -> None:
    """A PNG of 16 bits a channel, written without Pillow, which cannot."""
    header = struct.pack(">IIBBBBB", 2, 2, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = (b"\0" + bytes(range(4 * channels))) * 2
    path.write_bytes(png(header, rows))


@pytest.mark.parametrize(("kind", "channels"), [("png", 1), ("png", 3), ("pgm", 1), ("ppm", 3)])
def test_gray_and_color_of_16_bits_are_refused_alike(tmp_path: Path, kind: str, channels: int) -> None:
    path = tmp_path / f"deep.{kind}"
    if kind == "png":
        deep_png(path, channels)
    else:
        path.write_bytes(f"P{5 if channels == 1 else 6} 2 2 65535\n".encode() + bytes(8 * channels))
    with pytest.raises(DataError, match=r"deep\.\w+ has pixels of kind '\S+' with 16 bits a channel; expected 8-bit"):
        image_files.decode(str(path))


@pytest.mark.parametrize("suffix", image_files.SUFFIXES)
def test_every_documented_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    gray = suffix == ".pgm"
    Image.new("L" if gray else "RGB", (4, 3), 77 if gray else (77, 77, 77)).save(path)
    pixels = image_files.decode(str(path))
    assert pixels.shape == (1 if gray else 3, 3, 4)
    assert (np.abs(pixels.astype(int) - 77) <= 2).all()


def test_a_program_for_another_program_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow would hand PostScript to Ghostscript, whatever the file is called.
    monkeypatch.setattr(subprocess, "check_call", lambda *a, **k: pytest.fail("started a program"))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a program"))
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"unreadable image .*photo\.jpg: it is none of BMP, GIF, JPEG"):
        image_files.decode(str(path))


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX", "DDS", "SGI"])
def test_formats_that_are_not_documented_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (16, 16)).save(path, format=kind)
    with pytest.raises(DataError, match="it is none of"):
        image_files.decode(str(path))


def test_pipes_devices_folders_and_circles_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    for path, says in (
        (tmp_path / "pipe.png", "no regular file"),
        (tmp_path / "folder.png", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "circle.png", "symbolic links"),
        (tmp_path / "absent.png", "No such file"),
    ):
        with pytest.raises(DataError, match=f"unreadable image .*{path.name}: .*{says}"):
            image_files.decode(str(path))


def test_an_image_that_claims_to_be_huge_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 8_200, 8_200, 8, 0, 0, 0, 0)
    path.write_bytes(png(header, b""))
    with pytest.raises(DataError, match=r"bomb\.png claims 8200 x 8200 pixels; expected at most 67,108,864"):
        image_files.open_any(path)


@pytest.mark.parametrize("kind", ["gif", "png", "tif", "webp"])
def test_several_pictures_in_one_file_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"film.{kind}"
    pictures = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 100, 200)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    with pytest.raises(DataError, match=r"film\.\w+ holds several pictures; expected one"):
        image_files.decode(str(path))


def test_more_images_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def full(shape: tuple[int, ...], kind: type) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(DataError, match=r"1 images like .*a\.png take 0\.0 GiB, more than there is"):
        image_files.decode_all([str(tmp_path / "a.png")])
