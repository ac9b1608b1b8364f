"""Models that are chains: linear layers with elementwise activations between them, on the flattened image.

Backpropagation through such a model needs the activations' slopes and nothing else, and those follow from what leaves
them: of a ReLU, from which of its outputs are zero.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.matching.head import Head, evaluated
from fedsec.threat import Observation

__all__ = ["Activation", "ChainLayer", "LinearChain", "find_chain"]

_NUM_INPUTS = 16
_SPREAD = 3.0
"""Standard deviation of the inputs that the chain is tried on: beyond those of images, so that both sides show."""
_SAME = 1e-5


@dataclass(frozen=True)
class Activation:
    """An increasing elementwise function, whose slope follows from its output.

    Attributes:
        name: for messages.
        function: of a layer's output.
        slope: where the function's output is this.
        kinked: whether the slope jumps where the output is zero.
        flat: whether it is zero on one side of the kink.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    kinked: bool = False
    flat: bool = False

    def cleared(self, outputs: Float[Tensor, "batch units"], least: Float[Tensor, "batch 1"]) -> Tensor:
        """Outputs that were computed with some error, with zeros where they are zero but for it.

        Args:
            outputs: with errors.
            least: smaller ones of each example are zero.
        """
        return torch.where(outputs < least, 0.0, outputs) if self.flat else outputs


@dataclass(frozen=True, eq=False)
class ChainLayer:
    """A linear layer and the activation after it; in double precision on the CPU.

    Attributes:
        name: of the layer in the model.
        weight: of the layer.
        bias: of the layer; zeros where it has none.
        weight_name: of its weight among the model's parameters.
        bias_name: of its bias; empty where it has none.
        activation: what follows.
    """

    name: str
    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, "outputs"]
    weight_name: str
    bias_name: str
    activation: Activation

    def outputs(self, inputs: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        """What leaves the activation."""
        return self.activation.function(inputs @ self.weight.T + self.bias)


@dataclass(frozen=True, eq=False)
class LinearChain:
    """The body of a model as a chain, and its last layer.

    Attributes:
        layers: from the image to the features; none where the image enters the last layer itself.
        head_weight: of the last layer, in double precision on the CPU.
        head_bias: of the last layer; zeros where it has none.
    """

    layers: tuple[ChainLayer, ...]
    head_weight: Float[Tensor, "classes features"]
    head_bias: Float[Tensor, "classes"]

    @property
    def kinked(self) -> bool:
        """Whether a slope jumps somewhere."""
        return any(layer.activation.kinked for layer in self.layers)

    @property
    def narrowest(self) -> int:
        """How many neurons the narrowest layer has."""
        return min((len(layer.bias) for layer in self.layers), default=self.head_weight.shape[1])

    def missing(self, update: Mapping[str, Tensor]) -> str | None:
        """The first layer's weight that an update leaves out."""
        names = (layer.weight_name for layer in self.layers)
        return next((name for name in names if name not in update), None)

    def within(self, basis: Float[Tensor, "rank pixels"]) -> "LinearChain":
        """The same for images in the span of a basis, by their coordinates."""
        first, *rest = self.layers
        return replace(self, layers=(replace(first, weight=first.weight @ basis.T), *rest))

    def outputs(self, inputs: Float[Tensor, "batch pixels"]) -> list[Float[Tensor, "batch outputs"]]:
        """What leaves each layer but the last, the model's input first."""
        outputs = [inputs]
        for layer in self.layers:
            outputs.append(layer.outputs(outputs[-1]))
        return outputs

    def logits(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """What the last layer makes of features."""
        return features @ self.head_weight.T + self.head_bias


def find_chain(observation: Observation, head: Head) -> LinearChain | None:
    """The chain that a model is, seen on random inputs; None if it is another model.

    Args:
        observation: whose model it is.
        head: of that model.
    """
    model = observation.model
    if not all(isinstance(module, nn.Linear) for module in model.modules() if _owns_parameters(module)):
        return None
    calls: list[tuple[str, nn.Linear, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda module, arguments, left, name=name: calls.append((name, module, arguments[0].clone(), left.clone()))
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_NUM_INPUTS, *observation.input_shape, generator=generator)
    inputs = _SPREAD * noise.to(observation.device, next(model.parameters()).dtype)
    try:
        evaluated(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not calls or calls[-1][0] != head.name or not torch.equal(calls[0][2], inputs.flatten(1)):
        return None
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    every = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    if any(every.count(id(parameter)) > 1 for _, module, _, _ in calls for parameter in module.parameters()):
        return None
    if len({name for name, _, _, _ in calls}) < len(calls):
        return None
    layers = list[ChainLayer]()
    for (name, module, _, left), (_, _, entering, _) in pairwise(calls):
        activation = _activation(left.double(), entering.double())
        if activation is None:
            return None
        weight, bias = _matrix(module.weight), _bias(module.weight, module.bias)
        bias_name = "" if module.bias is None else names[id(module.bias)]
        layers.append(ChainLayer(name, weight, bias, names[id(module.weight)], bias_name, activation))
    return LinearChain(tuple(layers), _matrix(head.weight), _bias(head.weight, head.bias))


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _matrix(weight: Tensor) -> Tensor:
    return weight.detach().double().cpu()


def _bias(weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.zeros(len(weight), dtype=torch.double) if bias is None else _matrix(bias)


def _activation(before: Float[Tensor, "n units"], after: Tensor) -> Activation | None:
    """The activation that turns one into the other."""
    if after.shape != before.shape:
        return None
    scale = float(after.abs().max())
    candidates = list(_KNOWN)
    below = before < -_SAME * float(before.abs().max())
    if bool(below.any()):
        share = float((after[below] / before[below]).median())
        candidates += [_leaky(share)] if share > 0 else []
    for activation in candidates:
        if torch.allclose(activation.function(before), after, rtol=_SAME, atol=_SAME * scale):
            return activation
    return None


def _leaky(share: float) -> Activation:
    return Activation(
        "leaky_relu",
        partial(F.leaky_relu, negative_slope=share),
        lambda outputs: torch.where(outputs > 0, torch.ones_like(outputs), share),
        kinked=True,
    )


_KNOWN = (
    Activation("identity", torch.clone, torch.ones_like),
    Activation("relu", torch.relu, lambda outputs: (outputs > 0).to(outputs), kinked=True, flat=True),
    Activation("sigmoid", torch.sigmoid, lambda outputs: outputs * (1 - outputs)),
    Activation("tanh", torch.tanh, lambda outputs: 1 - outputs.square()),
    Activation("elu", F.elu, lambda outputs: 1 + outputs.clamp(-1, 0)),
    Activation("softplus", F.softplus, lambda outputs: -torch.expm1(-outputs.clamp_min(0))),
)
"""Increasing functions: those that fall in part, such as GELU and SiLU, have outputs with two slopes."""
