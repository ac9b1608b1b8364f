"""A classifier as a body that makes features and a last linear layer that makes logits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from fedsec.matching.limits import Deadline
from fedsec.threat import Observation

__all__ = ["Head", "copied_state", "evaluated", "find_head"]

_NUM_IMAGES = 4
_PART = 4
_SAME = 1e-4
"""Relative difference of logits that rounding may make."""


@dataclass(frozen=True, eq=False)
class Head:
    """The last linear layer of a model: logits = features @ weight.T + bias.

    What comes after it adds at most one constant to all logits of an image (log_softmax), the same constants to those
    of every image, or a positive factor (a temperature); both are part of `weight` and `bias` here. A convolution of
    single places is such a layer too, whose features are their mean, and so is one of the whole map.

    Args:
        name: of the layer in the model.
        weight: [classes, features].
        bias: [classes], or None.
        module: the model that it belongs to.
        weight_name: of the layer's weight among the model's parameters.
        bias_name: of its bias, if it has one.
        factor: that follows the layer: gradients of `weight` are those of the layer's own weight over it.
        tied: whether the weight is used elsewhere in the model too, so that its gradient is not the layer's alone.
        body_names: names of all parameters that the features depend on.
    """

    name: str
    weight: Float[Tensor, "classes features"]
    bias: Float[Tensor, "classes"] | None
    module: nn.Module
    weight_name: str
    bias_name: str
    factor: float
    tied: bool
    body_names: list[str]

    def weight_gradient(self, gradient: Mapping[str, Tensor]) -> Float[Tensor, "classes features"] | None:
        """Of `weight`, from the model's gradient; None if that leaves it out."""
        row = gradient.get(self.weight_name)
        return None if row is None else self._per_logit(row.flatten(1))

    def bias_gradient(self, gradient: Mapping[str, Tensor]) -> Float[Tensor, "classes"] | None:
        """Of `bias`, from the model's gradient; None if that leaves it out."""
        row = gradient.get(self.bias_name)
        return None if row is None else self._per_logit(row)

    def moved(self, update: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """What an update adds to `weight`, nothing if it leaves it out, and, if it has it, to `bias`."""
        weight, bias = update.get(self.weight_name), update.get(self.bias_name)
        moved = torch.zeros_like(self.weight) if weight is None else self.factor * weight.flatten(1)
        return moved, None if bias is None else self.factor * bias

    def _per_logit(self, row: Tensor) -> Tensor:
        return row if self.factor == 1 else row / self.factor

    def features(
        self, inputs: Float[Tensor, "batch channels height width"], state: Mapping[str, Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch classes"]]:
        """What enters the layer, and the model's output; differentiable, also under `vmap`.

        Args:
            inputs: of the model.
            state: parameters and buffers by name to use instead of the model's own.
        """
        entered: list[Tensor] = []
        layer = self.module.get_submodule(self.name)
        handle = layer.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
        try:
            outputs = functional_call(self.module, dict(state), (inputs,)) if state else self.module(inputs)
        finally:
            handle.remove()
        return _features(layer, entered[-1]), outputs

    def features_of_random(
        self, images: Float[Tensor, "images channels height width"], observation: Observation, deadline: Deadline
    ) -> Float[Tensor, "some features"]:
        """What enters the layer for images that stand for any: of all, or of as many as there is time for.

        Args:
            images: in [0, 1].
            observation: whose model this is.
            deadline: one without a limit computes all at once; else a few go through the model at a time.
        """
        state = copied_state(observation.model)
        inputs = observation.scale.apply(images.to(observation.device, self.weight.dtype))
        rows = []
        with torch.no_grad():
            for part in torch.split(inputs, _PART) if deadline.limited else [inputs]:
                rows.append(self.features(part, state)[0])
                if deadline.passed:
                    break
        return torch.cat(rows)


def find_head(observation: Observation) -> Head | None:
    """The last linear layer, if the model's output is its own but for what a `Head` may be followed by; else None.

    The model is run once, on random images.
    """
    model = observation.model
    calls: list[tuple[str, nn.Linear | nn.Conv2d, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda module, arguments, _, name=name: calls.append((name, module, arguments[0])))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or _may_be_linear(module)
    ]
    # Several images, for batch normalization in train mode refuses a single value a channel.
    noise = torch.rand(_NUM_IMAGES, *observation.input_shape, generator=torch.Generator().manual_seed(0))
    inputs = observation.scale.apply(noise.to(observation.device, next(model.parameters()).dtype))
    try:
        outputs = evaluated(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not calls or outputs.ndim != 2:
        return None
    name, layer, entered = calls[-1]
    if sum(other is layer for _, other, _ in calls) > 1 or len(entered) != len(inputs):
        return None
    return _head(observation, name, layer, _features(layer, entered), outputs)


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, as copies: normalization layers in train mode write to their buffers."""
    return {name: row.detach().clone() for name, row in (*model.named_parameters(), *model.named_buffers())}


@torch.no_grad()
def evaluated(model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's output; buffers that a forward pass moves are put back."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        outputs: Tensor = model(inputs)
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return outputs


def _head(
    observation: Observation, name: str, layer: nn.Linear | nn.Conv2d, features: Tensor, outputs: Tensor
) -> Head | None:
    own = {id(parameter): parameter_name for parameter_name, parameter in observation.model.named_parameters()}
    weight, bias = layer.weight, layer.bias
    matrix = weight.detach().flatten(1)
    if features.ndim != 2 or features.shape[1] != matrix.shape[1] or len(matrix) != outputs.shape[1]:
        return None
    logits = features @ matrix.T + (0 if bias is None else bias.detach())
    tail = _tail(logits, outputs, up_to_constant=observation.loss.softmax)
    if tail is None:
        return None
    factor, shift = tail
    names = [id(parameter) for _, parameter in observation.model.named_parameters(remove_duplicate=False)]
    head_names = {own[id(parameter)] for parameter in (weight, bias) if parameter is not None}
    head = Head(
        name,
        matrix,
        None if bias is None else bias.detach(),
        observation.model,
        own[id(weight)],
        "" if bias is None else own[id(bias)],
        factor,
        names.count(id(weight)) > 1,
        [key for key in own.values() if key not in head_names],
    )
    if factor != 1 or shift is not None:
        # A temperature may be a parameter as well, of which the features know nothing.
        head = replace(head, weight=factor * matrix, body_names=_body_names(head, observation))
        if head.bias is not None or shift is not None:
            fixed = matrix.new_zeros(len(matrix)) if head.bias is None else factor * head.bias
            head = replace(head, bias=fixed if shift is None else fixed + shift)
    return head


def _tail(logits: Tensor, outputs: Tensor, *, up_to_constant: bool) -> tuple[float, Tensor | None] | None:
    """(factor, what is added to the logits of every image) between logits and outputs; None if it is another function.

    Args:
        logits: of random images [images, classes].
        outputs: likewise.
        up_to_constant: whether a constant that is added to all classes of an image makes no difference to the loss.
    """
    if torch.allclose(outputs, logits, rtol=_SAME, atol=_SAME * float(logits.abs().max())):
        return 1.0, None
    logits, outputs = logits.double(), outputs.double()
    if up_to_constant:
        logits, outputs = (rows - rows.mean(1, keepdim=True) for rows in (logits, outputs))
    moved, answered = logits[1:] - logits[0], outputs[1:] - outputs[0]
    if not bool(moved.norm() > _SAME * logits.norm()):
        return None
    factor = float((moved * answered).sum() / moved.square().sum())
    if factor <= 0 or not bool((answered - factor * moved).norm() <= 10 * _SAME * answered.norm()):
        return None
    factor = 1.0 if abs(factor - 1) < _SAME else factor
    shift = (outputs - factor * logits).mean(0)
    negligible = bool(shift.norm() <= 10 * _SAME * outputs.norm())
    return factor, None if negligible else shift.to(torch.get_default_dtype())


def _body_names(head: Head, observation: Observation) -> list[str]:
    """Names of the parameters that the features depend on."""
    state = copied_state(observation.model)
    parameters = {name: state[name].requires_grad_() for name, _ in observation.model.named_parameters()}
    inputs = observation.scale.apply(torch.full((2, *observation.input_shape), 0.5).to(head.weight))
    features, _ = head.features(inputs, state)
    rows = torch.autograd.grad(features.sum(), list(parameters.values()), allow_unused=True)
    return [name for name, row in zip(parameters, rows, strict=True) if row is not None]


def _may_be_linear(module: nn.Module) -> bool:
    """Whether a convolution is a linear layer, at single places or of the whole map, depending on what enters it."""
    return isinstance(module, nn.Conv2d) and (module.groups, module.padding) == (1, (0, 0))


def _features(layer: nn.Module, entered: Tensor) -> Tensor:
    """What a linear layer makes logits of: what enters it; at every place of a map alike, the mean over places."""
    if not isinstance(layer, nn.Conv2d) or entered.ndim != 4:
        return entered
    return entered.flatten(1) if entered.shape[2:] == layer.kernel_size else entered.mean((2, 3))
