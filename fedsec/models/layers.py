"""Pieces that several models share."""

from torch import nn

from fedsec.errors import InputError

_ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def activation_layer(name: str) -> nn.Module:
    """The activation called `name`, never in place (double backward and per-example hooks need the input)."""
    if name not in _ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}; known: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


def initialize(module: nn.Module, init: str) -> None:
    """Initialize all weights of a model in place.

    Args:
        module: the model.
        init: `default` leaves PyTorch's (He-uniform with a = sqrt(5)); `uniform` draws weights and
            biases from U(-0.5, 0.5), as in the DLG paper's networks; `zeros` sets all to zero
            (only sensible for convex models); `he` draws the convolutions' weights from
            N(0, 2 / (kernel area x output channels)), made for ReLU, and leaves PyTorch's elsewhere.

    Raises:
        InputError: another name.
    """
    if init == "default":
        return
    if init == "he":
        for layer in module.modules():
            # On the meta device normal numbers would import torch's compiler: seconds, for nothing.
            if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return
    for parameter in module.parameters():
        if init == "uniform":
            nn.init.uniform_(parameter, -0.5, 0.5)
        elif init == "zeros":
            nn.init.zeros_(parameter)
        else:
            raise InputError(f"unknown init {init!r}; known: default, uniform, zeros, he")


def quarter(size: int) -> int:
    """Pixels left of `size` after two stride-2 convolutions with same padding."""
    return (size + 3) // 4
