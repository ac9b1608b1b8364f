"""What is stored becomes what a network gets."""

from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fedsec.data.normalization import Normalization


def shape_text(shape: tuple[int, ...]) -> str:
    """An input's shape as people write it: channels x height x width, or the number of features."""
    return "x".join(map(str, shape))


def normalize(
    inputs: UInt8[Tensor, "n c h w"] | Float[Tensor, "n *features"], normalization: Normalization
) -> Float[Tensor, "n *features"]:
    """(value - mean) / std as float32, channel by channel or feature by feature.

    Args:
        inputs: images in 0..255, whose value is pixel / 255; or numbers, which are taken as they are.
        normalization: the constants.
    """
    whole = 255 if inputs.dtype == torch.uint8 else 1
    scale, shift = _affine(normalization, whole, inputs.ndim, inputs.device)
    return (inputs.to(torch.float32) if whole == 255 else inputs.clone()).mul_(scale).sub_(shift)


@lru_cache(maxsize=16)
def _affine(normalization: Normalization, whole: int, ndim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset that `normalize` applies, kept on the device: no copy to it in the training loop."""
    shape = (-1, *[1] * (ndim - 2))
    mean, std = (torch.tensor(v, device=device).view(shape) for v in (normalization.mean, normalization.std))
    return 1 / (whole * std), mean / std
