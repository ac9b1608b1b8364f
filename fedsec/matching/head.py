"""A classifier as a body that makes features and a last linear layer that makes logits."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from fedsec.threat import Observation

__all__ = ["Head", "find_head"]


@dataclass(frozen=True, eq=False)
class Head:
    """The last linear layer of a model: logits = features @ weight.T + bias, and nothing after it.

    Attributes:
        name: of the layer in the model.
        weight: [classes, features].
        bias: [classes], or None.
        module: the model that it belongs to.
    """

    name: str
    weight: Float[Tensor, "classes features"]
    bias: Float[Tensor, "classes"] | None
    module: nn.Module

    @property
    def weight_name(self) -> str:
        """Name of the layer's weight among the model's parameters."""
        return f"{self.name}.weight" if self.name else "weight"

    @property
    def bias_name(self) -> str:
        """Name of the layer's bias among the model's parameters."""
        return f"{self.name}.bias" if self.name else "bias"

    @property
    def body_names(self) -> list[str]:
        """Names of all parameters but the layer's own."""
        own = (self.weight_name, self.bias_name)
        return [name for name, _ in self.module.named_parameters() if name not in own]

    def features(
        self, inputs: Float[Tensor, "batch channels height width"], state: Mapping[str, Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch classes"]]:
        """What enters the layer, and the logits; differentiable, also under `vmap`.

        Args:
            inputs: of the model.
            state: parameters and buffers by name to use instead of the model's own.
        """
        kept: list[Tensor] = []
        layer = self.module.get_submodule(self.name)
        handle = layer.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
        try:
            logits = functional_call(self.module, dict(state), (inputs,)) if state else self.module(inputs)
        finally:
            handle.remove()
        return kept[-1].flatten(1), logits


def find_head(observation: Observation) -> Head | None:
    """The last linear layer, if its output is the model's output unchanged; else None.

    The model is run once on gray images.
    """
    model = observation.model
    seen: list[tuple[str, tuple[int, ...], Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda _, arguments, output, name=name: seen.append((name, tuple(arguments[0].shape), output))
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    # Two images at least: batch normalization in train mode refuses a single value a channel.
    gray = observation.scale.apply(torch.full((2, *observation.input_shape), 0.5, device=observation.device))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.no_grad():
            logits = model(gray.to(next(model.parameters()).dtype))
    finally:
        for handle in handles:
            handle.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    if not seen:
        return None
    name, entered, output = seen[-1]
    if output.shape != logits.shape or len(entered) != 2 or not torch.equal(output, logits):
        return None
    if sum(other == name for other, _, _ in seen) > 1:
        return None
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return Head(name, layer.weight.detach(), None if layer.bias is None else layer.bias.detach(), model)
