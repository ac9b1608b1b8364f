"""A model in two parts: what a client's images become before they leave it, and what makes logits of that."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from fedsec.errors import InputError

PARTS = ("stem", "features")


def extractor(module: nn.Module) -> nn.Module:
    """The submodule whose outputs a FedGKT client sends: `stem`, else `features`.

    Raises:
        InputError: the model has neither.
    """
    for name in PARTS:
        part = getattr(module, name, None)
        if isinstance(part, nn.Module):
            return part
    raise InputError(
        f"{_called(module)} has no feature extractor; FedGKT's clients are resnet4, resnet6, resnet8, or any other "
        "model with a stem (resnet20, resnet56, ...) or with features (cnn, lenet, convnet64)"
    )


def split(module: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A model as an extractor and a head, such that ``head(extractor(images))`` is ``module(images)``.

    Both are parts of the module itself, not copies: where `torch.func.functional_call` puts other parameters into the
    module (or one that contains it), they compute with these.

    Returns:
        The extractor, and a function from its outputs to logits `[batch, classes]`: the model's method `classify`.

    Raises:
        InputError: the model has no extractor, or no method `classify`.
    """
    part, classify = extractor(module), getattr(module, "classify", None)
    if not callable(classify):
        raise InputError(
            f"{_called(module)} has no method classify that makes logits of its feature extractor's outputs"
        )
    return part, classify


def feature_shape(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(channels, height, width) of the feature map that a client sends of one image. The module is not changed.

    Raises:
        InputError: the model has no extractor, or its outputs are no feature maps.
    """
    part = deepcopy(extractor(module)).eval()
    like = next(module.parameters())
    with torch.no_grad():
        shape = tuple(part(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype)).shape[1:])
    if len(shape) != 3:
        raise InputError(f"{_called(module)} makes {shape} of an image; expected a feature map of three sides")
    return shape


def _called(module: nn.Module) -> str:
    name = getattr(module, "name", None)
    return f"model {name!r}" if isinstance(name, str) else f"the model {type(module).__name__}"
