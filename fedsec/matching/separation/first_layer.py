"""The linear layer that receives the image itself, and what its gradient shows neuron by neuron."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.matching.head import evaluated
from fedsec.threat import Observation

__all__ = ["first_linear", "images_of_neurons", "pixels"]

# Root mean square of pixels in [0, 1]: below the first, two neurons show one image (to what float32 gradients resolve);
# above the second, different ones.
_SAME = 3e-6
_DIFFERENT = 0.05


def first_linear(attack: str, observation: Observation, generator: torch.Generator) -> str:
    """Name of the linear layer that receives the flattened image as it is, seen on random images.

    Args:
        attack: that needs it, for messages.
        observation: whose model it is.
        generator: of the random images, on the CPU.

    Raises:
        InputError: there is none, or the update lacks its weight or bias.
    """
    model = observation.model
    inputs_by_layer: dict[str, Tensor] = {}
    inputs = torch.rand(2, *observation.input_shape, generator=generator, device=generator.device)
    inputs = inputs.to(observation.device, next(model.parameters()).dtype)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    handles = [
        layer.register_forward_pre_hook(lambda _, arguments, name=name: inputs_by_layer.setdefault(name, arguments[0]))
        for name, layer in layers.items()
    ]
    try:
        evaluated(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name, entered in inputs_by_layer.items():
        if entered.ndim == 2 and torch.equal(entered, inputs.flatten(1)):
            prefix = f"{name}." if name else ""
            missing = [kind for kind in ("weight", "bias") if prefix + kind not in observation.update]
            if missing:
                raise InputError(
                    f"{attack} needs the gradients of the first layer's weight and bias, but the update has no "
                    f"{prefix + missing[0]!r}"
                )
            return name
    raise InputError(f"{attack} needs a model whose first layer is linear and receives the flattened image as it is")


def pixels(observation: Observation, rows: Float[Tensor, "n pixels"]) -> Float[Tensor, "n channels height width"]:
    """Images whose inputs of the model these are."""
    return observation.scale.undo(rows.view(-1, *observation.input_shape))


def images_of_neurons(
    observation: Observation, weight: Float[Tensor, "neurons pixels"], bias: Float[Tensor, "neurons"]
) -> tuple[Float[Tensor, "batch channels height width"], int]:
    """Images of neurons: those that several agree on first, then those that stay best within the range of pixels.

    Args:
        observation: of a batch.
        weight: gradient of the first layer's weight, in double precision.
        bias: of its bias, not zero everywhere.

    Returns:
        The images, and how many of them several neurons agree on.
    """
    # Below this, a neuron's row is mostly rounding error.
    strong = bias.abs() > 1e-4 * bias.abs().max()
    images = pixels(observation, weight[strong] / bias[strong, None])
    flat = images.flatten(1)
    scale = flat.shape[1] ** 0.5
    outside = (flat - flat.clamp(0, 1)).norm(dim=1) / scale
    apart = torch.cdist(flat, flat) / scale
    agreeing = torch.where(outside < _SAME, (apart < _SAME).sum(1), 0)
    pure = agreeing > 1
    order = sorted(range(len(flat)), key=lambda row: (-int(agreeing[row]) if pure[row] else 0, float(outside[row])))
    chosen: list[int] = []
    for threshold in (_DIFFERENT, _SAME, -1.0):
        for row in order:
            if len(chosen) < observation.batch_size and row not in chosen:
                limit = min(threshold, _SAME) if pure[row] else threshold
                if not chosen or float(apart[row, chosen].min()) > limit:
                    chosen.append(row)
    agreed = int(pure[chosen].sum())
    while len(chosen) < observation.batch_size:
        chosen.append(chosen[-1])
    return images[chosen], agreed
