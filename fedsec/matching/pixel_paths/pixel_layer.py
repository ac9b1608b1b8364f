"""The first linear layer that all pixels of an image reach unchanged, and the column of its weight for each of them."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.threat import PixelScale

__all__ = ["PixelLayer", "pixel_layer"]

_PROBES = 3
"""Images by which columns are recognized: pixels are different numbers, in another order in each."""
_CLOSE = 0.1
"""Of the distance between two such numbers: what rounding may leave."""


@dataclass(frozen=True, eq=False)
class PixelLayer:
    """A linear layer with a bias, behind which something other than the logits follows.

    Attributes:
        name: of the layer.
        columns: of its weight, for each pixel of the flattened image, which come as numbers in [0, 1]; None where the
            layer receives the model's input itself.
    """

    name: str
    columns: Int64[Tensor, "pixels"] | None


def pixel_layer(model: nn.Module, shape: tuple[int, int, int], scale: PixelScale) -> PixelLayer | None:
    """Find it; None where the model has no such layer. The model is left as it is.

    Args:
        model: of images.
        shape: (channels, height, width) of an image.
        scale: how pixels become the model's input.
    """
    trial = deepcopy(model).double().eval()
    device = next(trial.parameters()).device
    pixels = _probes(shape[0] * shape[1] * shape[2]).to(device)
    inputs = scale.apply(pixels.view(_PROBES, *shape))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    layers = {name: layer for name, layer in trial.named_modules() if isinstance(layer, nn.Linear)}

    def keep(name: str, taken: Tensor, out: Tensor) -> None:
        seen.setdefault(name, (taken, out))

    handles = [
        layer.register_forward_hook(lambda _, arguments, out, name=name: keep(name, arguments[0], out))
        for name, layer in layers.items()
        if layer.bias is not None
    ]
    try:
        with torch.no_grad():
            logits = trial(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name, (taken, out) in seen.items():
        if taken.ndim != 2 or torch.equal(out, logits):
            continue
        if torch.equal(taken, inputs.flatten(1)):
            return PixelLayer(name, None)
        columns = _columns(taken, pixels)
        if columns is not None:
            return PixelLayer(name, columns)
    return None


def _probes(count: int) -> Float[Tensor, "probes pixels"]:
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(count, generator=generator) for _ in range(_PROBES)]
    return (torch.stack(orders).double() + 1) / count


def _columns(
    taken: Float[Tensor, "probes columns"], pixels: Float[Tensor, "probes pixels"]
) -> Int64[Tensor, "pixels"] | None:
    """The column in which each pixel is; None where some are in none."""
    count = pixels.shape[1]
    ranks = (taken[0] * count).round().long()
    # By its number in the first image a column names a pixel, which the others have to confirm.
    place = torch.zeros(count + 1, dtype=torch.int64, device=taken.device)
    place[(pixels[0] * count).round().long()] = torch.arange(count, device=taken.device)
    possible = (ranks >= 1) & (ranks <= count)
    named = place[ranks.clamp(0, count)]
    agree = possible & ((taken - pixels[:, named]).abs() * count < _CLOSE).all(0)
    columns = torch.full((count,), -1, dtype=torch.int64, device=taken.device)
    columns[named[agree]] = agree.nonzero()[:, 0]
    return None if bool((columns < 0).any()) else columns
