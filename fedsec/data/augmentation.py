"""Random crops, flips and cutouts of resident images, drawn beforehand and applied on the device.

What is drawn is a handful of small numbers an image, a *view*: engines and devices that are given the same views
see the same pixels, and an interrupted run sees them again.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor

from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.errors import InputError

DOWN, RIGHT, FLIPPED, CENTER_DOWN, CENTER_RIGHT = range(5)
"""What the numbers of a view say: the crop's offset, whether it is mirrored, and where the cutout's center lies."""


@dataclass(frozen=True)
class Augmentation:
    """The usual augmentation of small photographs.

    Args:
        crop: images are moved by up to so many pixels each way, black moving in: a random crop of the padded image.
        flip: whether half of them are mirrored left to right.
        cutout: side of a square set to the mean input, centered on a random pixel; 0 for none.

    Raises:
        InputError: a negative number.

    Reference: He et al., CVPR 2016, arXiv:1512.03385 (crop, flip); DeVries and Taylor 2017, arXiv:1708.04552 (cutout)
    """

    crop: int = 4
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.crop < 0 or self.cutout < 0:
            raise InputError(f"augmentation: crop and cutout must not be negative, got {self.crop} and {self.cutout}")

    def draw(
        self, shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator
    ) -> Int16[np.ndarray, "*shape 5"]:
        """Random views.

        Args:
            shape: how many.
            size: (height, width) of the images.
            rng: the only source of randomness.
        """
        views = np.zeros((*shape, 5), dtype=np.int16)
        views[..., :2] = rng.integers(-self.crop, self.crop + 1, (*shape, 2))
        if self.flip:
            views[..., FLIPPED] = rng.integers(0, 2, shape)
        if self.cutout:
            views[..., CENTER_DOWN] = rng.integers(0, size[0], shape)
            views[..., CENTER_RIGHT] = rng.integers(0, size[1], shape)
        return views

    def apply(
        self, images: UInt8[Tensor, "n c h w"], views: Int16[Tensor, "n 5"], normalization: Normalization
    ) -> Float[Tensor, "n c h w"]:
        """The images as their views show them, normalized; on their own device, in a few gathers."""
        count, channels, height, width = images.shape
        views = views.long()
        down = torch.arange(height, device=images.device)
        right = torch.arange(width, device=images.device)
        across = torch.where(views[:, FLIPPED, None] == 1, width - 1 - right, right)
        rows, columns = down + views[:, DOWN, None], across + views[:, RIGHT, None]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        places = (rows.clamp(0, height - 1) * width)[:, :, None] + columns.clamp(0, width - 1)[:, None, :]
        flat = places.view(count, 1, -1).expand(-1, channels, -1)
        moved = images.view(count, channels, -1).gather(2, flat).view_as(images) * inside[:, None]
        inputs = normalize(moved, normalization)
        return inputs * self._kept(views, down, right) if self.cutout else inputs

    def _kept(self, views: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """One outside the cutout, zero in it: [n, 1, h, w]. A square of even side reaches one further up and left."""

        def covered(places: Tensor, center: Tensor) -> Tensor:
            first = center[:, None] - self.cutout // 2
            return (places >= first) & (places < first + self.cutout)

        cut = covered(down, views[:, CENTER_DOWN])[:, :, None] & covered(right, views[:, CENTER_RIGHT])[:, None, :]
        return (~cut)[:, None].float()
