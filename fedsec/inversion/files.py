"""A user's own image files as a client's images: found, opened, cropped to squares, resampled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fedsec.data.folders import class_folders
from fedsec.data.image_files import SUFFIXES, is_deep, is_image, open_any
from fedsec.errors import InputError, printable

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFile", "find", "read"]


@dataclass(frozen=True)
class ImageFile:
    """One image to be read.

    Attributes:
        path: of the file.
        label: name of the class folder it lies in; None for images without classes.
    """

    path: Path
    label: str | None = None


def find(paths: Iterable[Path]) -> list[ImageFile]:
    """Files, the images of folders, and those of class folders (`folder/<class>/<image>`), in order.

    Raises:
        InputError: a path that does not exist, a folder without images, or images with and without classes.
    """
    files: list[ImageFile] = []
    for path in paths:
        if path.is_dir():
            files += _in_folder(path)
        elif path.exists():
            files.append(ImageFile(path))
        else:
            raise InputError(f"--images {path}: no such file or folder")
    if len({file.label is None for file in files}) > 1:
        raise InputError("--images: expected either images in class folders or images without classes, not both")
    return files


def _in_folder(folder: Path) -> list[ImageFile]:
    def images(of: Path, label: str | None = None) -> list[ImageFile]:
        return [ImageFile(path, label) for path in sorted(of.iterdir()) if is_image(path.name) and path.is_file()]

    try:
        files = images(folder)
        if not files:
            files = [file for name in class_folders(folder) for file in images(folder / name, printable(name))]
    except OSError as error:
        raise InputError(f"--images {folder}: cannot be listed: {error.strerror or error}") from error
    if not files:
        raise InputError(f"--images {folder}: holds no image; expected files ending in {', '.join(SUFFIXES)}")
    return files


def read(files: Sequence[ImageFile], size: int) -> tuple[UInt8[Tensor, "images 3 size size"], list[str]]:
    """Pixels of the files as RGB squares, and a note where that changed them.

    Args:
        files: to read.
        size: of the square, in pixels.

    Raises:
        InputError: a file that is no readable image; the text names it.
    """
    pixels, cropped, resized, others = [], 0, 0, []
    for file in files:
        image, kind = _open(file.path)
        width, height = image.size
        if kind != "RGB":
            others.append(f"{printable(file.path.name)} ({kind})")
        cropped += width != height
        resized += min(width, height) != size
        pixels.append(np.asarray(_square(image, size)))
    notes = []
    count = f"of {len(files)} {'image' if len(files) == 1 else 'images'}"
    if cropped:
        notes.append(f"{cropped} {count} cropped to their central square")
    if resized:
        notes.append(f"{resized} {count} resized to {size}x{size} pixels")
    if others:
        named = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        notes.append(f"converted to RGB: {named}")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), notes


def _open(path: Path) -> tuple["Image", str]:
    """The file as RGB, upright, transparent parts on white; and what its pixels were."""
    from PIL import Image, ImageOps

    try:
        file = open_any(path)
    except InputError as error:
        raise InputError(f"--images: {error}") from error
    with file:
        kind, deep_color = file.mode, is_deep(file) and not file.mode.startswith("I")
        try:
            image = ImageOps.exif_transpose(file)
            image.load()
        except Exception as error:  # Parsers of malformed files raise all kinds of things.
            raise InputError(f"--images: unreadable image {path}: {error}") from error
    if kind.startswith("I"):
        deep = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.rint(np.clip(deep / 257, 0, 255)).astype(np.uint8))
    elif kind == "F":
        raise InputError(f"--images: {path} has floating-point pixels, whose range is not known; expected 8 or 16 bits")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    words = {
        "L": "gray",
        "1": "black and white",
        "P": "palette",
        "RGBA": "transparency on white",
        "LA": "transparency on white",
    }
    if deep_color:  # Pillow has cut it to 8 bits already
        kind = f"16-bit {'color' if kind == 'RGB' else kind}"
    return image.convert("RGB"), words.get(kind, "16-bit gray" if kind.startswith("I") else kind)


def _square(image: "Image", size: int) -> "Image":
    from PIL import Image

    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    if side == size and (left, top) == (int(left), int(top)):
        return image.crop((int(left), int(top), int(left) + side, int(top) + side))
    way = Image.Resampling.BOX if side % size == 0 else Image.Resampling.LANCZOS
    return image.resize((size, size), way, box=(left, top, left + side, top + side))
