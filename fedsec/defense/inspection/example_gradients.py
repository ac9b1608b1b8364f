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
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fedsec.errors import InputError
from fedsec.privacy.gradients.per_example import RULES

Loss = Callable[[Tensor, Tensor], Float[Tensor, "batch"]]
"""(outputs, targets) -> the loss of each example."""
_ROUNDING = 1e-6
"""Added to denominators, as in the published code."""
_TWINS = 0.7
"""Cosine from which on two neurons measure the same, but for their thresholds and noise."""
_SAME = 1 - 1e-6
"""Cosine from which on two neurons learn the same of a batch."""
_ALONE = 0.999
"""An example whose part of a gradient is larger stands there alone."""
_SHARED = 3
"""Examples from which on what two neurons learn agrees by more than chance: one of them fixes the factor."""
_FEWEST_EXAMPLES, _FEWEST_NEURONS, _MOST_NEURONS = 8, 8, 2048
"""Of fewer nothing is said; of more neurons the first ones are compared with each other."""
_SURE = 1e-2
"""Of an example whose gradient at the outputs is smaller, relative to the largest, confidence explains no more."""


@dataclass(frozen=True, eq=False)
class ExampleGradients:
    """What the examples of a batch would leave in a layer's weight.

    Args:
        name: of the layer.
        layer: a linear or a convolutional one.
        norms: of each example's gradient of the weight.
        rows: norms of the batch's parts of each row's gradient; None of layers whose rows are not single neurons.
        outputs: gradients at the neurons; None likewise.
        pulls: norms of each example's gradient at the model's outputs: how much it wants them to change; None where the
            outputs are no tensor.
    """

    name: str
    layer: nn.Module
    norms: Float[Tensor, "batch"]
    rows: Float[Tensor, "batch neurons"] | None = None
    outputs: Float[Tensor, "batch neurons"] | None = None
    pulls: Float[Tensor, "batch"] | None = None

    def d_snr(self) -> float:
        """The largest norm over the sum of the others."""
        return _outshining(self.norms)

    def magnified(self) -> float:
        """D-SNR of what the layer leaves per unit of the examples' gradients at the outputs, or of all if that is less.

        An example that a model is sure of leaves little in whatever layer, so that in a converged model one with a
        larger loss outshines its batch. A server that fishes silences examples on their way back from the outputs. What
        confidence explains is taken out, as far as it is above a hundredth of the largest; below, the server may have
        made the outputs themselves so steep.
        """
        if self.pulls is None:
            return self.d_snr()
        return min(self.d_snr(), _outshining(self.norms / self._units()))

    def exposed(self) -> float:
        """Share of neurons that learn from a single example, or differ from a twin by one, of all that learn.

        Of a linear layer such a gradient is the example's input of the layer, up to a factor. Rows that let m of a
        batch's examples through on average, each with the same small chance, show a single one in m / (e^m - 1) of the
        cases: 58% where m is 1, as analytic attacks want it, and 31% where it is 2. Of k neurons that answer to unlike
        mixtures of an image's pixels few do, and their share does not grow with k, as that of exposed examples does.
        0 where fewer than eight neurons learn, or from fewer than eight examples: of those some do by chance.
        """
        reactions = self._reactions()
        learning = 0 if reactions is None else int((reactions != 0).any(0).sum())
        if reactions is None or learning < _FEWEST_NEURONS:
            return 0.0
        lone = _alone(reactions.abs())
        number = min(reactions.shape[1], _MOST_NEURONS)
        lone[:number] |= _between_twins(reactions[:, :number], _weight(self.layer).detach()[:number].double())
        return float(lone.sum()) / learning

    def idle(self) -> float:
        """Share of neurons whose gradient is zero for every example."""
        return 0.0 if self.rows is None else float((self.rows.amax(0) == 0).double().mean())

    def _units(self) -> Float[Tensor, "batch"]:
        assert self.pulls is not None
        return (self.pulls / self.pulls.max().clamp_min(1e-30)).clamp_min(_SURE).to(self.norms)

    def _reactions(self) -> Float[Tensor, "learned neurons"] | None:
        """Gradients at the neurons, each example's relative to its largest; None of too few examples.

        How sure the model is of an example, which scales all of its gradients, does not matter then. Examples of which
        it is so sure that their losses are exactly 0 are left out.
        """
        if self.outputs is None:
            return None
        outputs = self.outputs if self.pulls is None else self.outputs[self.pulls > 0]
        if len(outputs) < _FEWEST_EXAMPLES:
            return None
        relative = outputs / outputs.abs().amax(1, keepdim=True).clamp_min(1e-300)
        return relative.where(relative.abs() > 1e-6, 0.0)


def _alone(parts: Float[Tensor, "batch neurons"]) -> Bool[Tensor, "neurons"]:
    """Which columns one example makes up, but for rounding."""
    alone: Tensor = parts.amax(0) > _ALONE * parts.sum(0).clamp_min(1e-30)
    return alone


def _outshining(norms: Float[Tensor, "batch"]) -> float:
    largest = norms.max()
    return float(largest / (norms.sum() - largest + _ROUNDING))


def _between_twins(
    parts: Float[Tensor, "batch neurons"], weight: Float[Tensor, "neurons inputs"]
) -> Bool[Tensor, "neurons"]:
    """Which neurons differ from a twin by one example alone.

    A twin is the neuron that measures the same, up to its threshold and some noise, and learns most alike, but not the
    same. With the same way onward, or a multiple of it, gradients of twins are multiples of each other but for examples
    that one of them reacted to and the other did not. The factor is fitted, so that at least three examples have to
    agree on it for the rest to mean anything.
    """
    if len(weight) < 2 or not bool(weight.isfinite().all() & parts.isfinite().all()):
        return torch.zeros(len(weight), dtype=torch.bool, device=parts.device)
    rows = weight / weight.norm(dim=1, keepdim=True).clamp_min(1e-30)
    columns = parts / parts.norm(dim=0).clamp_min(1e-30)
    alike = (columns.T @ columns).abs()
    candidates = ((rows @ rows.T).abs() >= _TWINS) & (alike < _SAME) & ((parts != 0).sum(0) >= _SHARED)[None]
    likeness, twin = alike.where(candidates, -1.0).max(1)
    others = parts[:, twin]
    # Of two nested sets of examples the smaller one tells the factor.
    differ: Tensor = (likeness > 0) & (_alone(_beyond(parts, others)) | _alone(_beyond(others, parts)))
    return differ


def _beyond(parts: Float[Tensor, "batch neurons"], others: Float[Tensor, "batch neurons"]) -> Tensor:
    """What is left of columns without the multiple of another that fits best."""
    factors = (parts * others).sum(0) / others.square().sum(0).clamp_min(1e-30)
    rest = (parts - factors * others).abs()
    beyond: Tensor = rest.where(rest > 1e-6 * parts.abs().amax(0), 0.0)
    return beyond


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
            predicted = model(examples)
            losses = loss(predicted, targets)
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
    known = isinstance(predicted, Tensor) and predicted.requires_grad and predicted.shape[:1] == examples.shape[:1]
    *at_outputs, at_predicted = torch.autograd.grad(
        losses.sum(),
        [*(output for *_, output in flat), predicted if known else losses],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    pulls = at_predicted.reshape(len(examples), -1).double().norm(dim=1) if known else None
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
        gradients.append(ExampleGradients(name, part, norms, rows, outputs.double() if neurons else None, pulls))
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
