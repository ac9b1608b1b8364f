"""One image file: which formats are read, how it is opened, and what its pixels must be.

A file's name says nothing about its content: Pillow is told the formats that may be in it, since some of those that it
knows start other programs (PostScript).
"""

import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fedsec.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What may be in a file, by Pillow's names; nothing else is tried."""
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 26
"""Of one image (8,192 x 8,192): a small file may claim any size."""
_CHUNK = 256
_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3}


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image; others (notes, thumbnails' databases) are passed over."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def open_any(path: "str | Path") -> "Image":
    """Open a file that holds one image of a documented format and of a sane size; its pixels may be of any kind.

    Raises:
        DataError: no regular file (a pipe would never end), no such image, several, or one that is too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  (paths are text here)
    except OSError as error:
        raise DataError(f"unreadable image {path}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"unreadable image {path}: it is no regular file")
    try:
        image = Image.open(path, formats=FORMATS)
        several = image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a JPEG with a preview
    except UnidentifiedImageError as error:
        raise DataError(f"unreadable image {path}: it is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Parsers of malformed files raise all kinds of things.
        raise DataError(f"unreadable image {path}: {error}") from error
    wrong = ""
    if image.width * image.height > MAX_PIXELS:
        wrong = f"claims {image.width} x {image.height} pixels; expected at most {MAX_PIXELS:,}"
    elif several:
        wrong = "holds several pictures; expected one"
    if wrong:
        image.close()
        raise DataError(f"image {path} {wrong}")
    return image


def is_deep(image: "Image") -> bool:
    """Whether an opened image has more than 8 bits a channel; Pillow cuts those of colors without a word."""
    tiles = getattr(image, "tile", ())
    for tile in tiles:
        codec, arguments = str(tile[0]), tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(value, str) and re.search(r";1[0246]", value) for value in arguments):
            return True
        if codec.startswith("ppm") and any(isinstance(value, int) and value > 255 for value in arguments):
            return True
    return image.mode.startswith("I")


def open_image(path: str) -> "Image":
    """Open an image whose pixels are 8-bit gray or RGB (or stand for such: black and white, a palette).

    Raises:
        DataError: see `open_any`; or of another kind, whose conversion would lose something silently.
    """
    image = open_any(path)
    deep = is_deep(image)
    if deep or image.mode not in _CHANNELS:
        image.close()
        depth = " with 16 bits a channel" if deep else ""
        raise DataError(f"image {path} has pixels of kind {image.mode!r}{depth}; expected 8-bit gray or RGB")
    return image


def shape_of(path: str) -> tuple[int, int, int]:
    """(channels, height, width) of an image, from its header.

    Raises:
        DataError: see `open_image`.
    """
    with open_image(path) as image:
        return _CHANNELS[image.mode], image.height, image.width


def decode(path: str) -> "np.ndarray":
    """One image's pixels, uint8 [channels, height, width].

    Raises:
        DataError: see `open_image`.
    """
    import numpy as np

    with open_image(path) as image:
        try:
            pixels = np.asarray(image.convert("L" if _CHANNELS[image.mode] == 1 else "RGB"))
        except Exception as error:  # As above: a file may open and then turn out to be truncated or corrupt.
            raise DataError(f"unreadable image {path}: {error}") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def decode_all(paths: list[str]) -> "np.ndarray":
    """Pixels of many images of one shape, uint8 [images, channels, height, width].

    Raises:
        DataError: an unreadable image, one whose shape differs from the first one's, or more than memory holds.
    """
    import numpy as np

    first = decode(paths[0])
    try:
        pixels = np.empty((len(paths), *first.shape), np.uint8)
    except MemoryError as error:
        needed = len(paths) * first.size / 2**30
        raise DataError(f"{len(paths)} images like {paths[0]} take {needed:.1f} GiB, more than there is") from error

    def decode_chunk(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(paths))):
            image = decode(paths[index])
            if image.shape != first.shape:
                raise DataError(
                    f"images must all have one shape (nothing is resized silently): {paths[0]} is "
                    f"{'x'.join(map(str, first.shape))}, {paths[index]} is {'x'.join(map(str, image.shape))} "
                    "(channels x height x width)"
                )
            pixels[index] = image

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            list(pool.map(decode_chunk, range(0, len(paths), _CHUNK)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return pixels
