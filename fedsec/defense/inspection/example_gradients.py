"""What single examples of a batch would leave in the gradients of a model's layers.

D-SNR is that of Garov, Dimitrov, Jovanovic, Vechev: Hiding in Plain Sight: Disguising Data Stealing Attacks in
Federated Learning. ICLR 2024, arXiv:2306.03013: for each weight matrix the largest norm of an example's gradient over
the sum of all others', and of these the largest. Their published code leaves the first convolution and the shortcuts of
a ResNet out; here every linear and every convolutional layer counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fedsec.errors import InputError
from fedsec.privacy.gradients.per_example import RULES

Loss = Callable[[Tensor, Tensor], Float[Tensor, "batch"]]
"""(outputs, targets) -> the loss of each example."""
_ROUNDING = 1e-6
"""Added to denominators, as in the published code."""
_NEIGHBORS = 0.7
"""Cosine of most rows with the next, where rows are one row with different thresholds."""
_ALONE = 0.999
"""An example whose part of a gradient is larger stands there alone."""


@dataclass(frozen=True, eq=False)
class ExampleGradients:
    """What the examples of a batch would leave in a layer's weight.

    Args:
        name: of the layer.
        layer: a linear or a convolutional one.
        norms: of each example's gradient of the weight.
        rows: norms of the batch's parts of each row's gradient; None of layers whose rows are not single neurons.
        outputs: gradients at the neurons; None likewise.
    """

    name: str
    layer: nn.Module
    norms: Float[Tensor, "batch"]
    rows: Float[Tensor, "batch neurons"] | None = None
    outputs: Float[Tensor, "batch neurons"] | None = None

    def d_snr(self) -> float:
        """The largest norm over the sum of the others."""
        largest = self.norms.max()
        return float(largest / (self.norms.sum() - largest + _ROUNDING))

    def exposed(self) -> float:
        """Share of examples that alone determine the gradient of some neuron, or its difference to a twin's gradient.

        Of a linear layer such a gradient is the example's input of the layer, up to a factor. Twins are neurons of the
        same weights and other thresholds: the difference of the gradients of two of them, next to each other by
        threshold, holds the examples that one of them reacted to and the other did not.
        """
        if self.rows is None or self.outputs is None:
            return 0.0
        lone = _lone(self.rows)
        twins = _by_threshold(self.layer)
        if twins is not None:
            between = self.outputs[:, twins].diff(dim=1).abs()
            scale = self.rows.amax() / self.outputs.abs().amax().clamp_min(_ROUNDING)
            lone = lone | _lone(between * scale)
        return float(lone.double().mean())

    def idle(self) -> float:
        """Share of neurons whose gradient is zero for every example."""
        return 0.0 if self.rows is None else float((self.rows.amax(0) == 0).double().mean())


def layer_gradients(
    model: nn.Module, examples: Float[Tensor, "batch ..."], targets: Tensor, loss: Loss
) -> list[ExampleGradients]:
    """What each example would leave in each linear and convolutional layer that it reaches.

    One backward pass tells all of it. Where examples depend on each other, as by batch normalization in training, an
    example's part is what its own activations leave in the batch's gradient, and not, as in the published code, the
    gradient of its own loss, which would take a pass for each.

    Args:
        model: a copy, in the mode in which clients train; buffers change.
        examples: at least two.
        targets: of the examples.
        loss: of each example.

    Raises:
        InputError: the model does not take the examples, or the loss is not one number for each.
    """
    calls: dict[str, list[tuple[nn.Module, Tensor, Tensor]]] = {}
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear | _ConvNd)}
    # Of frozen layers no gradient is sent.
    layers = {name: part for name, part in layers.items() if _weight(part).requires_grad}
    handles = [part.register_forward_hook(_recorder(name, calls)) for name, part in layers.items()]
    try:
        with torch.enable_grad():
            losses = loss(model(examples), targets)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"the model cannot be asked about these examples: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    if losses.shape != (len(examples),):
        raise InputError(f"expected a loss for each of {len(examples)} examples, got shape {tuple(losses.shape)}")
    if not losses.requires_grad or not calls:
        return []
    flat = [use for uses in calls.values() for use in uses]
    at_outputs = torch.autograd.grad(
        losses.sum(), [output for *_, output in flat], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    by_output = {id(use[2]): gradient for use, gradient in zip(flat, at_outputs, strict=True)}
    gradients = []
    for name, uses in calls.items():
        (part, inputs, output), alone = uses[0], len(uses) == 1 and len(uses[0][1]) == len(examples)
        outputs = by_output[id(output)]
        if alone and type(part) in RULES:
            (_, pending), *_ = RULES[type(part)](part, inputs, outputs)
            norms = pending.squares().sqrt()
        else:
            norms = _one_by_one(part, losses)
        neurons = isinstance(part, nn.Linear) and alone and inputs.ndim == 2
        rows = outputs.abs().double() * inputs.double().norm(dim=1, keepdim=True) if neurons else None
        gradients.append(ExampleGradients(name, part, norms, rows, outputs.double() if neurons else None))
    return gradients


def _one_by_one(layer: nn.Module, losses: Tensor) -> Float[Tensor, "batch"]:
    """Norms of each example's gradient of a weight, a backward pass for each: for layers without a rule."""
    norms = []
    for own in losses:
        (gradient,) = torch.autograd.grad(
            own, [_weight(layer)], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        norms.append(torch.linalg.vector_norm(gradient, dtype=torch.float64))
    return torch.stack(norms)


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _recorder(name: str, calls: dict[str, list[tuple[nn.Module, Tensor, Tensor]]]) -> Callable[..., Tensor | None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Tensor | None:
        # A received layer may put out anything, and what has no gradient leaves nothing in an update.
        if not (isinstance(output, Tensor) and output.requires_grad):
            return None
        if inputs:
            calls.setdefault(name, []).append((layer, inputs[0].detach(), output))
        return output.clone()  # which what follows, such as an in-place ReLU, may write into

    return hook


def _lone(rows: Float[Tensor, "batch neurons"]) -> Tensor:
    """Which examples make up a neuron's gradient alone, whatever rounding leaves of the others'."""
    totals = rows.sum(0)
    seen = totals > 1e-6 * totals.amax().clamp_min(1e-30)
    return ((rows > _ALONE * totals) & seen).any(1)


def _by_threshold(layer: nn.Module) -> Tensor | None:
    """The neurons of a linear layer in the order of their thresholds, where they measure the same and differ in that.

    A threshold is a bias, or the weight of an input that is constant: then the rows with their biases lie in a plane,
    and their angle in it is the order.
    """
    rows = _weight(layer).detach().double()
    if isinstance(layer.bias, Tensor):
        rows = torch.cat([rows, layer.bias.detach().double()[:, None]], 1)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
    if min(rows.shape) < 2 or len(rows) < 3 or not float((rows[1:] * rows[:-1]).sum(1).median()) >= _NEIGHBORS:
        return None
    if not bool(rows.isfinite().all()):
        return None
    _, sizes, axes = torch.linalg.svd(rows, full_matrices=False)
    if float(sizes[:2].square().sum() / sizes.square().sum()) < 1 - 1e-6:
        return None
    plane = rows @ axes[:2].T
    order: Tensor = torch.atan2(plane[:, 1], plane[:, 0].abs()).argsort()
    return order
