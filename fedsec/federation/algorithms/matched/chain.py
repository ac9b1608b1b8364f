"""Networks whose layers follow one another: whose neurons may change places without changing what the network computes.

Which layers follow which is read off the traced network, not guessed from the order of its parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, fx, nn

from fedsec.engine.parameters import ParameterLayout
from fedsec.errors import InputError

BETWEEN = (
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
"""Modules that treat all neurons (or channels) alike."""
FUNCTIONS = frozenset({"relu", "sigmoid", "tanh", "gelu", "silu", "flatten", "max_pool2d", "avg_pool2d"})
"""Functions and methods of tensors that do."""


@dataclass(frozen=True)
class Layer:
    """A fully connected layer or a convolution, and where it lies in the vector of all parameters.

    Args:
        weight: where its weights begin: output by output, input by input, kernels last.
        outputs: neurons, or channels.
        inputs: of each of them, or channels.
        area: weights between one input and one output.
        bias: where its biases begin; -1 for none.
    """

    weight: int
    outputs: int
    inputs: int
    area: int
    bias: int

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.outputs * self.inputs * self.area

    def places(self) -> Int64[Tensor, "outputs incoming"]:
        """Where what comes into each output lies: its weights, and its bias last if it has one."""
        weights = (self.weight + torch.arange(self.size)).view(self.outputs, -1)
        if self.bias < 0:
            return weights
        return torch.cat((weights, self.bias + torch.arange(self.outputs)[:, None]), 1)


def chain_of(module: nn.Module) -> list[Layer]:
    """A network's layers, from the input on.

    Args:
        module: fully connected layers and convolutions, each given what the one before it put out, with nothing in
            between but what treats all neurons alike.

    Raises:
        InputError: it is something else (says what), or has parameters that are not trained.
    """
    try:
        nodes = list(fx.Tracer().trace(module).nodes)
    except Exception as error:  # whatever a network's own code raises when it meets no numbers
        raise _refusal(f"what {type(module).__name__} computes cannot be traced") from error
    layers: list[tuple[str, nn.Linear | nn.Conv2d]] = []
    flat = False  # what the latest convolution put out
    for before, node in zip([None, *nodes], nodes, strict=False):
        if before is not None and (node.all_input_nodes != [before] or list(before.users) != [node]):
            raise _refusal(f"{node.name} is not given the one before it alone")
        if node.op == "call_module":
            name = str(node.target)
            layer = module.get_submodule(name)
            if isinstance(layer, nn.Linear) and layers and isinstance(layers[-1][1], nn.Conv2d) and not flat:
                raise _refusal(f"{name} is given feature maps that are not flat")
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layers.append((name, layer))
                flat = False
            elif isinstance(layer, nn.Flatten):
                flat = layer.start_dim == 1
            elif not isinstance(layer, BETWEEN):
                raise _refusal(f"{name} is a {type(layer).__name__}")
        elif node.op not in ("placeholder", "output"):
            what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            if node.op not in ("call_method", "call_function") or what not in FUNCTIONS:
                raise _refusal(f"{node.name} is a step of its own")
            if what == "flatten":
                flat = tuple(node.args[1:2]) == (1,) or node.kwargs.get("start_dim") == 1
    return _placed(module, layers)


def _placed(module: nn.Module, layers: Sequence[tuple[str, nn.Linear | nn.Conv2d]]) -> list[Layer]:
    """Layers with their places in the vector of all parameters."""
    shapes, offset = ParameterLayout.of(module).shapes, 0
    offsets: dict[str, int] = {}
    for name, shape in shapes.items():
        offsets[name] = offset
        offset += shape.numel()
    chain: list[Layer] = []
    for name, layer in layers:
        prefix = f"{name}." if name else ""
        if isinstance(layer, nn.Conv2d) and layer.groups != 1:
            raise _refusal(f"{name} has {layer.groups} groups of channels")
        bias = offsets.pop(f"{prefix}bias", -1)
        if f"{prefix}weight" not in offsets or (layer.bias is not None and bias < 0):
            raise _refusal(f"{name} is not trained, or stands in two places")
        outputs, inputs, *kernel = layer.weight.shape
        area = math.prod(kernel)
        if chain:  # what a flattened channel leaves lies side by side
            inputs, area = chain[-1].outputs, area * inputs // chain[-1].outputs
            if outputs * inputs * area != layer.weight.numel():
                raise _refusal(f"{name} does not take what the layer before it puts out")
        chain.append(Layer(offsets.pop(f"{prefix}weight"), outputs, inputs, area, bias))
    if offsets:
        raise _refusal(f"{', '.join(offsets)} belong to none of these")
    return chain


def _refusal(what: str) -> InputError:
    return InputError(
        "FedMA matches neurons of fully connected layers and convolutions that follow one another, such as mlp's, "
        f"lenet's or cnn's (without normalization and skip connections), and here {what}; expected another model"
    )
