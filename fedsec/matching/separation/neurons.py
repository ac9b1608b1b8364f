"""What a layer's neurons do for single images: which are awake, and what the loss of each label sends back to them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fedsec.matching.head import copied_state
from fedsec.threat import Observation

__all__ = ["activations", "gradients_at"]

_AT_ONCE = 1024
"""Images that go through the model together."""


def activations(
    model: nn.Module, layer: str, inputs: Float[Tensor, "images features"]
) -> Bool[Tensor, "images neurons"]:
    """Which outputs of a linear layer with a bias are positive, in double precision on the inputs' device.

    Args:
        model: that has the layer.
        layer: its name.
        inputs: of the layer.
    """
    prefix = f"{layer}." if layer else ""
    weight, bias = (model.get_parameter(prefix + kind).detach().to(inputs) for kind in ("weight", "bias"))
    awake: Tensor = inputs @ weight.T + bias > 0
    return awake


def gradients_at(
    observation: Observation, layer: str, images: Float[Tensor, "images channels height width"]
) -> Float[Tensor, "images classes neurons"]:
    """The gradient of each image's own loss at a layer's output, for every label that it could have; on the CPU.

    Args:
        observation: whose model and loss these are. Images must not influence each other in the model.
        layer: name of the layer.
        images: in [0, 1].
    """
    classes, outputs_of_layer = observation.num_classes, list[Tensor]()
    weight = next(observation.model.get_submodule(layer).parameters())
    inputs = observation.scale.apply(images.to(weight.device, weight.dtype)).repeat_interleave(classes, 0)
    labels = torch.arange(classes, device=weight.device).repeat(len(images))

    def keep(_: nn.Module, __: tuple[Tensor, ...], left: Tensor) -> Tensor:
        if not left.requires_grad:
            left = left.detach().requires_grad_()
        outputs_of_layer.append(left)
        return left

    handle = observation.model.get_submodule(layer).register_forward_hook(keep)
    state, parts = copied_state(observation.model), list[Tensor]()
    try:
        for some, own in zip(torch.split(inputs, _AT_ONCE), torch.split(labels, _AT_ONCE), strict=True):
            outputs_of_layer.clear()
            outputs = torch.func.functional_call(observation.model, state, (some,))
            parts.append(torch.autograd.grad(observation.loss.sum(outputs, own), outputs_of_layer[0])[0].cpu())
    finally:
        handle.remove()
    return torch.cat(parts).double().view(len(images), classes, -1)
