"""Convolutions whose weights pass every pixel of an image on, so that a linear layer behind them receives the image.

A kernel of zeros with a single one passes a plane on. With a stride s, s x s kernels do, each of which takes its own
pixel of every s x s block: no pixel is lost where a layer has s^2 times as many output channels as planes come in. The
first convolution undoes the normalization of pixels, so that ReLU, which is the identity from zero on, changes nothing.

Reference: Boenisch et al., EuroS&P 2023, arXiv:2112.02918 (whose convolutions have stride 1)
"""

from math import prod

import torch
from torch import nn

from fedsec.errors import InputError
from fedsec.threat import PixelScale

__all__ = ["pass_pixels_on"]

_HARMLESS = (nn.ReLU, nn.LeakyReLU, nn.Flatten, nn.Identity)
"""What leaves numbers from zero on as they are."""


def pass_pixels_on(model: nn.Module, shape: tuple[int, int, int], scale: PixelScale) -> None:
    """Set, in place, the convolutions before a model's first linear layer so that they pass images on as in [0, 1].

    Args:
        model: whose layers run one after the other.
        shape: (channels, height, width) of an image.
        scale: how pixels become the model's input.

    Raises:
        InputError: a layer that cannot; the message names it.
    """
    planes, sides = shape[0], (shape[1], shape[2])
    first = True
    for name, layer in _before_linear(model, shape, scale):
        if isinstance(layer, nn.Conv2d):
            planes, sides = _pass_on(name, layer, planes, sides, scale if first else None)
            first = False
        elif not isinstance(layer, _HARMLESS):
            raise InputError(f"{name} ({type(layer).__name__}) does not pass pixels on")


def _before_linear(model: nn.Module, shape: tuple[int, int, int], scale: PixelScale) -> list[tuple[str, nn.Module]]:
    """Layers in the order in which an image runs through them, up to the first linear one."""
    order: list[tuple[str, nn.Module]] = []
    handles = [
        layer.register_forward_pre_hook(lambda module, _, name=name: order.append((name, module)))
        for name, layer in model.named_modules()
        if not any(True for _ in layer.children())
    ]
    like = next(model.parameters())
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(scale.apply(torch.full((1, *shape), 0.5, dtype=like.dtype, device=like.device)))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    names = [name for name, _ in order]
    linear = next((place for place, (_, layer) in enumerate(order) if isinstance(layer, nn.Linear)), None)
    if linear is None:
        raise InputError("no linear layer follows the convolutions")
    if len(set(names[:linear])) < linear:
        raise InputError("a layer is used twice before the first linear one")
    return order[:linear]


def _pass_on(
    name: str, layer: nn.Conv2d, planes: int, sides: tuple[int, int], scale: PixelScale | None
) -> tuple[int, tuple[int, int]]:
    """Set one convolution; how many planes it gives, and of which sides.

    Args:
        name: of the layer.
        layer: that is set.
        planes: that come in.
        sides: of them.
        scale: of the pixels, where they are the model's input; None where they lie in [0, 1] already.
    """
    if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros":
        raise InputError(f"{name} is a convolution with groups, dilation or a padding other than zeros")
    strides = layer.stride
    paddings, results = zip(*(_side(name, layer, side, axis) for axis, side in enumerate(sides)), strict=True)
    needed = planes * prod(strides)
    if layer.out_channels < needed:
        raise InputError(
            f"{name} has {layer.out_channels} output channels, and to pass {planes} planes on with a stride of "
            f"{strides[0]} x {strides[1]} takes {needed}"
        )
    values, offsets = torch.ones(planes), torch.zeros(planes)
    if scale is not None:
        offsets, values = (part.expand(planes, 1, 1).flatten() for part in scale.tensors(torch.zeros(planes, 1, 1)))
    if layer.bias is None and bool(offsets.any()):
        raise InputError(f"{name} has no bias, which would undo the normalization of pixels before ReLU")
    with torch.no_grad():
        layer.weight.zero_()
        for plane in range(planes):
            for down in range(strides[0]):
                for right in range(strides[1]):
                    out = (plane * strides[0] + down) * strides[1] + right
                    layer.weight[out, plane, paddings[0] + down, paddings[1] + right] = values[plane]
        if layer.bias is not None:
            layer.bias.zero_()
            layer.bias[:needed] = offsets.repeat_interleave(prod(strides))
    return needed, (results[0], results[1])


def _side(name: str, layer: nn.Conv2d, side: int, axis: int) -> tuple[int, int]:
    """Padding before a side, and how long the side is behind the layer."""
    kernel, stride = layer.kernel_size[axis], layer.stride[axis]
    if isinstance(layer.padding, str):
        total = kernel - 1 if layer.padding == "same" else 0
        before = total // 2
    else:
        before, total = layer.padding[axis], 2 * layer.padding[axis]
    result = (side + total - kernel) // stride + 1
    if before + stride > kernel or result * stride < side:
        raise InputError(f"{name} loses pixels at the border: kernel {kernel}, stride {stride}, padding {before}")
    return before, result
