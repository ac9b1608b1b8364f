"""What marks the images of a backdoor: pixels of a pattern, and how much of an image they cover."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError

Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right", "center"]
"""Where a square lies; corners touch both edges of the image."""
CORNERS = get_args(Corner)
Patch = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


@dataclass(frozen=True, eq=False)
class Trigger:
    """A pattern that is laid over images: (1 - opacity) * image + opacity * pattern.

    Args:
        pattern: pixels in [0, 1].
        opacity: how much of each pixel the pattern replaces, in [0, 1]; what has none stays to the last bit.
    """

    pattern: Float[Tensor, "channels height width"]
    opacity: Float[Tensor, "channels height width"]

    def stamp(self, images: Tensor) -> Tensor:
        """New images that carry the trigger.

        Args:
            images: [n, channels, height, width], uint8 in 0..255 or floating-point in [0, 1], on any device.

        Raises:
            InputError: images of another shape.
        """
        if images.shape[1:] != self.pattern.shape:
            raise InputError(
                f"trigger: made for images of shape {tuple(self.pattern.shape)}, got {tuple(images.shape[1:])}"
            )
        whole = 1 if images.is_floating_point() else 255
        wide = images if images.dtype == torch.float64 else images.float()
        pattern, opacity = self.pattern.to(wide), self.opacity.to(wide)
        marked = torch.lerp(wide, whole * pattern, opacity)
        marked = marked if whole == 1 else marked.round()
        return torch.where(opacity > 0, marked.to(images.dtype), images)


def square(shape: Sequence[int], size: int, position: Corner, value: float) -> Trigger:
    """A square of one brightness.

    Args:
        shape: (channels, height, width) of the images.
        size: its side, in pixels.
        position: where it lies.
        value: its brightness in [0, 1], in every channel.

    Raises:
        InputError: inputs that are no images, or a square that is larger than they are.
    """
    _, height, width = image_shape(shape)
    top = {"top": 0, "bottom": height - size}.get(position.partition("_")[0], (height - size) // 2)
    left = {"left": 0, "right": width - size}.get(position.partition("_")[2], (width - size) // 2)
    return patches(shape, [(top, left, size, size)], value)


def patches(shape: Sequence[int], places: Sequence[Patch], value: float) -> Trigger:
    """Rectangles of one brightness.

    Args:
        shape: (channels, height, width) of the images.
        places: top, left, height and width of each, in pixels.
        value: their brightness in [0, 1], in every channel.

    Raises:
        InputError: inputs that are no images, or a rectangle that reaches beyond them.
    """
    channels, height, width = image_shape(shape)
    opacity = torch.zeros(channels, height, width)
    for top, left, down, right in places:
        if top < 0 or left < 0 or top + down > height or left + right > width:
            raise InputError(
                f"trigger: a patch of {down} x {right} pixels at row {top}, column {left} does not fit images of "
                f"{height} x {width}"
            )
        opacity[:, top : top + down, left : left + right] = 1
    return Trigger(torch.full_like(opacity, value), opacity)


def noise(shape: Sequence[int], opacity: float, seed: int) -> Trigger:
    """A key image of uniform noise, the same for everybody with the same seed, over the whole image.

    Args:
        shape: (channels, height, width) of the images.
        opacity: of the key.
        seed: of the key.

    Raises:
        InputError: inputs that are no images.
    """
    pattern = torch.rand(image_shape(shape), generator=torch.Generator().manual_seed(seed))
    return Trigger(pattern, torch.full_like(pattern, opacity))


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width.

    Raises:
        InputError: inputs that are no images.
    """
    if len(shape) != 3:
        raise InputError(
            f"trigger: a pattern of pixels needs images [channels, height, width], got inputs of shape {tuple(shape)}"
        )
    channels, height, width = shape
    return channels, height, width
