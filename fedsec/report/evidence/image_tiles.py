"""Originals and reconstructions of one observed round as files: pixels in a PNG, scores beside it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedsec.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["SCORES", "TILES", "ImageTiles", "pair_png", "read_tiles", "write_tiles"]

TILES, SCORES = "tiles.png", "tiles.json"
_MOST_PIXELS = 1 << 26
_SHOWN, _GAP = 112, 8
"""Small images are shown at least so many pixels wide, every pixel of theirs as a square of whole ones; and how far
from each other."""

Pixels = NDArray[np.uint8]
"""Of one image, `[rows, columns, 3]`."""


@dataclass(frozen=True, eq=False)
class ImageTiles:
    """Originals beside what was recovered of them.

    Args:
        originals: of each image.
        recovered: of each image, likewise.
        scores: of each image: `psnr`, `ssim`, `psnr_gray` and so on, and its `caption`.
        about: what they are of: inversion, client, round.
    """

    originals: Sequence[Pixels]
    recovered: Sequence[Pixels]
    scores: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


def write_tiles(
    folder: Path,
    originals: "Float[Tensor, 'images channels height width']",
    recovered: "Float[Tensor, 'images channels height width']",
    scores: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> None:
    """Write `tiles.png`, originals in the upper row and reconstructions in the lower one, and `tiles.json`.

    Args:
        folder: where to.
        originals: in [0, 1].
        recovered: in [0, 1], in the same order.
        scores: of each image, as plain data.
        about: what they are of, as plain data.
    """
    from PIL import Image

    rows = [np.concatenate([pixels_of(image) for image in images], axis=1) for images in (originals, recovered)]
    png = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(png, format="PNG")
    write_atomic(folder / TILES, png.getvalue())
    height, width = originals.shape[-2:]
    content = {"about": dict(about), "height": height, "width": width, "images": list(map(dict, scores))}
    write_json(folder / SCORES, content)


def read_tiles(folder: Path) -> ImageTiles | None:
    """What `write_tiles` wrote into a folder; None where it is not there, or something else is."""
    from PIL import Image

    try:
        content = read_json(folder / SCORES)
        height, width, scores = int(content["height"]), int(content["width"]), list(map(dict, content["images"]))
        about = dict(content["about"])
        if not all(isinstance(about.get(name), int) for name in ("round", "client")):
            return None
        with Image.open(folder / TILES, formats=["PNG"]) as file:
            if file.size != (width * len(scores), 2 * height) or file.width * file.height > _MOST_PIXELS:
                return None
            pixels = np.asarray(file.convert("RGB"))
    except (OSError, ValueError, TypeError, KeyError, SyntaxError):
        return None
    upper, lower = pixels[:height], pixels[height:]
    places = [slice(number * width, (number + 1) * width) for number in range(len(scores))]
    return ImageTiles([upper[:, place] for place in places], [lower[:, place] for place in places], scores, about)


def pixels_of(image: "Float[Tensor, 'channels height width']") -> Pixels:
    """An image in [0, 1] as RGB; of other than three channels the first, as gray."""
    values = image.detach().cpu().mul(255).round().clamp(0, 255).byte()
    values = values if len(values) == 3 else values[:1].expand(3, -1, -1)
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())


def pair_png(original: Pixels, recovered: Pixels) -> bytes:
    """An original and what was recovered of it side by side as a PNG file, small ones enlarged."""
    from PIL import Image

    scale = max(1, -(-_SHOWN // original.shape[1]))
    left, right = (pixels.repeat(scale, 0).repeat(scale, 1) for pixels in (original, recovered))
    picture = Image.new("RGBA", (2 * left.shape[1] + _GAP, left.shape[0]), (0, 0, 0, 0))
    for x, pixels in ((0, left), (left.shape[1] + _GAP, right)):
        picture.paste(Image.fromarray(pixels), (x, 0))
    png = io.BytesIO()
    picture.save(png, format="PNG", optimize=True)
    return png.getvalue()
