"""Views of photographs that come with scikit-image: nothing to download."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data.sources.source import Source

if TYPE_CHECKING:
    import numpy as np

    from fedsec.data.dataset import Split


class Photos(Source):
    """Views of 8 photographs, 160 + 48 color images of 32x32, label = photograph, embedded in scikit-image.

    For looking at what gradient inversion recovers, not for measuring generalization: training and
    test views of one photograph overlap. A view is a square part scaled down by averaging: the whole
    (its largest centered square), 9 of 7/10 and 16 of 1/2 of its shorter side on a regular grid. Every
    fifth view is a test image, the whole one first; the first 8 test images are therefore the 8
    photographs. Views come in this order, all photographs of each.

    Reference: van der Walt et al., "scikit-image: image processing in Python", PeerJ, 2014.
    """

    name = "photos"
    layout = ""
    input_shape = (3, 32, 32)
    num_classes = 8
    embedded_in = "skimage"
    how_to_get = "`pip install scikit-image`; it is embedded there"

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        import numpy as np
        import torch
        from PIL import Image
        from skimage import data

        from fedsec.data.dataset import Split

        loaded = [getattr(data, function)() for function in _PHOTOGRAPHS.values()]
        # A stereo pair comes as (left, right, disparity).
        photographs = [np.asarray(one[0] if isinstance(one, tuple) else one) for one in loaded]
        pixels = np.stack(
            [
                np.asarray(Image.fromarray(photograph).resize((32, 32), Image.Resampling.BOX, box=box))
                for boxes in zip(*map(_views, photographs), strict=True)
                for photograph, box in zip(photographs, boxes, strict=True)
            ]
        )
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        numbers = np.arange(len(images))
        whole = Split(images, torch.from_numpy(numbers % len(photographs)))
        in_test = numbers // len(photographs) % 5 == 0
        return whole.take(numbers[~in_test]), whole.take(numbers[in_test]), tuple(_PHOTOGRAPHS)


# Class name, and the function of skimage.data that gives the photograph.
_PHOTOGRAPHS = {
    "astronaut": "astronaut",
    "cat": "cat",
    "coffee": "coffee",
    "galaxies": "hubble_deep_field",
    "motorcycle": "stereo_motorcycle",
    "retina": "retina",
    "rocket": "rocket",
    "tissue": "immunohistochemistry",
}


def _views(photograph: "np.ndarray") -> list[tuple[float, float, float, float]]:
    """Square parts of a photograph as (left, upper, right, lower) in pixels."""
    height, width = photograph.shape[:2]
    short = min(height, width)
    boxes = [_square((width - short) / 2, (height - short) / 2, short)]
    for share, count in ((0.7, 3), (0.5, 4)):
        side = share * short
        for row in range(count):
            for column in range(count):
                boxes.append(_square((width - side) * column / (count - 1), (height - side) * row / (count - 1), side))
    return boxes


def _square(left: float, upper: float, side: float) -> tuple[float, float, float, float]:
    return left, upper, left + side, upper + side
