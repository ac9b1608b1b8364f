"""Each problem's gradient of known layers, from what enters them and what comes back to their outputs.

A convolution's weight gradient is a function of its input and of the gradient at its output. Taken this way, the
weights themselves need no gradient, which spares the second pass through the network a convolution a layer, and many
problems that share the broadcast weights run as one ordinary batch: only the weight gradients are formed a problem at
a time. (`torch.autograd.grad` for the parameters, under `vmap` for several problems, gives the same numbers.)

Reference: Goodfellow, Efficient per-example gradient computations, 2015, arXiv:1510.01799 (for linear layers)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.threat import ClientLoss

__all__ = ["LayerGradients"]

Form = Callable[[Any, Tensor, Tensor, int], dict[str, Tensor]]
"""(layer, input [problems * batch, ...], gradient at the output, problems) -> gradients [problems, ...] by name."""

Names = dict[str, str]
"""Of a layer's own parameters: in the layer -> in the model."""


class LayerGradients:
    """Gradients of the mean loss for the parameters of known layers, for several problems at once.

    Args:
        model: a private copy; hooks are put on it, and none of its parameters requires a gradient afterwards.
        names: of the parameters that are wanted, as `named_parameters` gives them; layers may share one.
        loss: of each example.

    Attributes:
        complete: whether all of them belong to layers that are known; if not, use something else.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], loss: ClientLoss) -> None:
        self._model, self._names, self._loss = model.requires_grad_(False), list(names), loss
        self._calls: list[tuple[nn.Module, Form, Names, Tensor, Tensor]] = []
        # Tied parameters have one name, wherever they are used.
        of_tensor = {id(parameter): name for name, parameter in model.named_parameters()}
        owned = set()
        for layer in model.modules():
            form = _form(layer)
            if form is None:
                continue
            own = {name: of_tensor[id(parameter)] for name, parameter in layer.named_parameters(recurse=False)}
            if set(own.values()) & set(self._names):
                owned |= set(own.values())
                layer.register_forward_hook(self._hook(form, own))
                if isinstance(layer, nn.Conv2d):
                    layer.forward = partial(_convolve, layer)  # type: ignore[method-assign]
        self.complete = set(self._names) <= owned

    def _hook(self, form: Form, names: Names) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def keep(layer: nn.Module, entered: tuple[Tensor, ...], left: Tensor) -> Tensor:
            if not left.requires_grad:
                left = left.detach().requires_grad_()
            self._calls.append((layer, form, names, entered[0], left))
            return left

        return keep

    def __call__(self, inputs: Float[Tensor, "some batch c h w"], labels: Tensor) -> list[Tensor]:
        """Gradients of each problem's mean loss, [some, ...] for each name, twice differentiable.

        Args:
            inputs: of the model, one batch a problem. Batches must not influence each other in the model.
            labels: int64 [some, batch], or probabilities [some, batch, classes].
        """
        problems, batch = inputs.shape[:2]
        self._calls.clear()
        outputs = self._model(inputs.flatten(0, 1))
        calls, self._calls = self._calls, []
        loss = self._loss.sum(outputs, labels.flatten(0, 1)) / batch
        backs = torch.autograd.grad(loss, [left for *_, left in calls], create_graph=True)
        gradients: dict[str, Tensor] = {}
        for (layer, form, names, entered, _), back in zip(calls, backs, strict=True):
            for name, gradient in form(layer, entered, back, problems).items():
                key = names[name]
                gradients[key] = gradients[key] + gradient if key in gradients else gradient
        return [gradients[name] for name in self._names]


def _form(layer: nn.Module) -> Form | None:
    """How to get a layer's gradients, if it is known. A subclass may do anything, so none is."""
    kind = type(layer)
    if kind is nn.Conv2d:
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and layer.groups == 1
        return _convolution if plain else None
    forms: dict[type, Form] = {nn.Linear: _linear, nn.BatchNorm2d: _batch_norm, nn.GroupNorm: _group_norm}
    return forms.get(kind)


def _convolution(layer: nn.Conv2d, entered: Tensor, back: Tensor, problems: int) -> dict[str, Tensor]:
    bias = {}
    if layer.bias is not None:
        bias["bias"] = back.sum((2, 3)).view(problems, -1, layer.out_channels).sum(1)
    if problems == 1:
        weight = torch.as_tensor(_WeightGradient.apply(entered, back, layer)).unsqueeze(0)
    else:
        assert not isinstance(layer.padding, str)
        columns = F.unfold(entered, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        weight = _products(back.flatten(2), columns, problems).view(problems, *layer.weight.shape)
    return {"weight": weight, **bias}


def _linear(layer: nn.Linear, entered: Tensor, back: Tensor, problems: int) -> dict[str, Tensor]:
    rows = back.reshape(problems, -1, layer.out_features)
    weight = {"weight": rows.mT @ entered.reshape(problems, -1, layer.in_features)}
    return weight if layer.bias is None else {**weight, "bias": rows.sum(1)}


def _batch_norm(layer: nn.BatchNorm2d, entered: Tensor, back: Tensor, problems: int) -> dict[str, Tensor]:
    own = layer.training or layer.running_mean is None
    running = (None, None) if own else (layer.running_mean, layer.running_var)
    return _affine(F.batch_norm(entered, *running, training=own, eps=layer.eps), back, problems)


def _group_norm(layer: nn.GroupNorm, entered: Tensor, back: Tensor, problems: int) -> dict[str, Tensor]:
    return _affine(F.group_norm(entered, layer.num_groups, eps=layer.eps), back, problems)


def _affine(normal: Tensor, back: Tensor, problems: int) -> dict[str, Tensor]:
    rows = (len(back), back.shape[1], -1)
    sums = (normal * back).reshape(rows).sum(2), back.reshape(rows).sum(2)
    weight, bias = (part.view(problems, -1, part.shape[1]).sum(1) for part in sums)
    return {"weight": weight, "bias": bias}


def _products(left: Tensor, right: Tensor, problems: int) -> Tensor:
    """sum of left @ right^T over a problem's images: [problems * batch, a or b, n] -> [problems, a, b]."""
    if len(left) == problems:
        return left @ right.mT
    left, right = (rows.view(problems, -1, *rows.shape[1:]).transpose(1, 2).flatten(2) for rows in (left, right))
    return left @ right.mT


# PyTorch's own double backward of a convolution forms the second-order gradient of the weight, a convolution as large
# as the layer's, even where nobody asks for it. As a function of its input alone a convolution is linear, and these
# three functions are each other's derivatives.


class _Convolution(torch.autograd.Function):
    """Input -> output, without the bias; the weight is a constant."""

    @staticmethod
    def forward(ctx: Any, entered: Tensor, weight: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.weight, ctx.layer, ctx.like = weight, layer, entered.detach()
        return F.conv2d(entered, weight, None, layer.stride, layer.padding, layer.dilation)

    @staticmethod
    def backward(ctx: Any, *back: Tensor) -> tuple[Any, ...]:
        return _Adjoint.apply(back[0], ctx.weight, ctx.layer, ctx.like), None, None


class _Adjoint(torch.autograd.Function):
    """Gradient at the output -> gradient at the input; the weight is a constant."""

    @staticmethod
    def forward(ctx: Any, back: Tensor, weight: Tensor, layer: nn.Conv2d, like: Tensor) -> Tensor:
        ctx.weight, ctx.layer = weight, layer
        return _backward(back, like, weight, layer, 0)

    @staticmethod
    def backward(ctx: Any, *entered: Tensor) -> tuple[Any, ...]:
        return _Convolution.apply(entered[0], ctx.weight, ctx.layer), None, None, None


class _WeightGradient(torch.autograd.Function):
    """(input, gradient at the output) -> gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, entered: Tensor, back: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.save_for_backward(entered, back)
        ctx.layer = layer
        return _backward(back, entered, layer.weight, layer, 1)

    @staticmethod
    def backward(ctx: Any, *weight: Tensor) -> tuple[Any, ...]:
        entered, back = ctx.saved_tensors
        layer = ctx.layer
        return (
            _Adjoint.apply(back, weight[0], layer, entered),
            _Convolution.apply(entered, weight[0], layer),
            None,
        )


def _backward(back: Tensor, entered: Tensor, weight: Tensor, layer: nn.Conv2d, which: int) -> Tensor:
    """A convolution's gradient for its input (0) or its weight (1)."""
    mask = [which == 0, which == 1, False]
    sizes = layer.stride, layer.padding, layer.dilation
    gradients = torch.ops.aten.convolution_backward(back, entered, weight, None, *sizes, False, [0, 0], 1, mask)
    gradient: Tensor = gradients[which]
    return gradient


def _convolve(layer: nn.Conv2d, entered: Tensor) -> Tensor:
    left: Tensor = _Convolution.apply(entered, layer.weight, layer)
    return left if layer.bias is None else left + layer.bias.view(-1, 1, 1)
