"""How pixels become a model's input."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["PixelScale"]


@dataclass(frozen=True)
class PixelScale:
    """How pixels in [0, 1] become the model's input: (image - mean) / std, channel by channel.

    Args:
        mean: one number a channel; a single number is that of all channels.
        std: likewise, positive.

    Raises:
        InputError: lengths differ, or a deviation is not positive.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, other in (("mean", self.std), ("std", self.mean)):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), other))
        fine = len(self.mean) == len(self.std) > 0 and all(map(isfinite, (*self.mean, *self.std)))
        if not fine or min(self.std) <= 0:
            raise InputError(f"PixelScale: expected as many finite means as positive deviations, got {self}")

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation as [channels, 1, 1], with the dtype and the device of `like`."""
        mean, std = (
            torch.tensor(v, dtype=like.dtype, device=like.device).view(-1, 1, 1) for v in (self.mean, self.std)
        )
        return mean, std

    def apply(
        self, images: Float[Tensor, "*batch channels height width"]
    ) -> Float[Tensor, "*batch channels height width"]:
        """Pixels in [0, 1] -> the model's input."""
        mean, std = self.tensors(images)
        return (images - mean) / std

    def undo(
        self, inputs: Float[Tensor, "*batch channels height width"]
    ) -> Float[Tensor, "*batch channels height width"]:
        """The model's input -> pixels in [0, 1]."""
        mean, std = self.tensors(inputs)
        return inputs * std + mean


def _numbers(name: str, values: Any, other: Any) -> tuple[float, ...]:
    """As a tuple; a single number as often as the other constant has numbers."""
    try:
        if isinstance(values, int | float):
            return (float(values),) * (1 if isinstance(other, int | float) else len(other))
        return tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise InputError(f"PixelScale: {name} must be a number, or one a channel, got {values!r}") from error
