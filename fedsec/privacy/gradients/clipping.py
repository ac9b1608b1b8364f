"""Sums of clipped per-example gradients: sum_i g_i min(1, C / ||g_i||), the norm over all parameters together.

Three ways that take any criterion, from the fastest to the most general; Opacus's are in `opacus_modes`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedsec.errors import InputError
from fedsec.privacy.gradients.per_example import RULES, Formed, Pending, rounding
from fedsec.randomness import seeded

Criterion = Callable[..., Float[Tensor, "batch"]]
"""(logits, *targets) -> each example's loss, which must depend on nothing but its own row of logits and targets."""
Precision = Callable[[], AbstractContextManager[Any]]


class UnsupportedError(Exception):
    """A way of forming per-example gradients cannot handle a model; the text says why."""


class ClippedSum(ABC):
    """A way to the sum of a batch's clipped gradients.

    Args:
        module: its trainable parameters are read where they lie; it may be given hooks, so use a `twin`.
        precision: a context for forward passes.
    """

    words: ClassVar[str]
    """What it is called in messages."""
    numbers: int = 0
    """Gradient numbers that the last call held for each example: memory beside the activations."""

    def __init__(self, module: nn.Module, precision: Precision = nullcontext) -> None:
        self.module, self.precision = module, precision
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    @final
    def __call__(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> list[Tensor]:
        """The sum, by trainable parameter in the module's order; examples whose norm is not finite add nothing.

        Args:
            images: at least one.
            targets: what the criterion needs beside the logits; a row for each image.
            criterion: gives each example's loss.
            max_grad_norm: C.

        Raises:
            UnsupportedError: it cannot be had in this way.
        """
        total, squares = self.total(images, targets, criterion, max_grad_norm)
        finite = squares.isfinite()
        if bool(finite.all()):
            return total
        if not bool(finite.any()):
            return [torch.zeros_like(parameter) for parameter in self.parameters]
        # No weight would do: zero times NaN is NaN. Whether an example is left out depends on nothing but itself.
        return self(images[finite], [target[finite] for target in targets], criterion, max_grad_norm)

    @abstractmethod
    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        """The sum, worth nothing unless all norms are finite, and the squared norms; arguments as above."""


def clip_weights(
    squares: Float[Tensor, "batch"], max_grad_norm: float, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch"]:
    """min(1, C / ||g_i||) from squared norms, rounded so that no product of weight and gradient is longer than C.

    Args:
        squares: not smaller than they are in exact arithmetic; float64, which holds the square of every float32.
        max_grad_norm: C.
        dtype: of the gradients.
    """
    device = squares.device
    # The product with a gradient is rounded too, number by number.
    bound = max_grad_norm * (1 - 8 * rounding(device) if dtype != torch.float64 else 1 - 2.0**-50)
    norms = squares.double().sqrt()
    exact = torch.where(norms <= bound, 1.0, bound / norms)
    weights = exact.to(dtype)
    return torch.where(weights.double() > exact, torch.nextafter(weights, torch.zeros_like(weights)), weights)


def squared_norms(rows: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch"]:
    """Squared norms of rows, in float64: in float32 squares of small numbers vanish, and those of large overflow."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms.square()


def twin(module: nn.Module) -> nn.Module:
    """A copy of a module's structure over the very same parameters and buffers, which can be given hooks.

    PyTorch's activations do not work in place in it: what a layer gave must be there when its gradients are formed.
    """
    shared = {id(tensor): tensor.data for tensor in [*module.parameters(), *module.buffers()]}
    memo: dict[int, Any] = {}
    for tensor in module.parameters():
        # Tied parameters stay tied.
        memo[id(tensor)] = nn.Parameter(shared[id(tensor)], requires_grad=tensor.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer
    copied: nn.Module = copy.deepcopy(module, memo)
    for layer in copied.modules():
        if type(layer).__module__.startswith("torch.nn.") and getattr(layer, "inplace", False) is True:
            layer.inplace = False  # type: ignore[assignment]
    return copied


class BookKeeping(ClippedSum):
    """One forward pass, one backward pass to the layers' outputs; norms and sums from inputs and output gradients.

    For models whose trainable parameters all belong to linear layers, 2-d convolutions, group or layer normalizations.

    Reference: Bu, Wang, Zha, Karypis, ICML 2023, arXiv:2210.00038
    """

    words = "book-keeping"

    def __init__(self, module: nn.Module, precision: Precision = nullcontext) -> None:
        super().__init__(module, precision)
        self._calls: list[tuple[nn.Module, Tensor, Tensor, int]] = []
        known: set[int] = set()
        for name, layer in module.named_modules():
            own = [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]
            if not own:
                continue
            if type(layer) not in RULES:
                raise UnsupportedError(f"layer {name!r} ({type(layer).__name__}) has no rule")
            known.update(map(id, own))
            layer.register_forward_hook(self._remember, with_kwargs=True)
        # A parameter that torch's parametrizations compute is none of a layer's own.
        if known != set(map(id, self.parameters)):
            raise UnsupportedError("some trainable parameters belong to no layer with a rule")

    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        self._calls.clear()
        try:
            with torch.enable_grad():
                with self.precision():
                    logits = self.module(images)
                loss = criterion(logits, *targets).sum()
            changed = [layer for layer, _, output, version in self._calls if output._version != version]
            if changed:
                raise UnsupportedError(f"the output of a {type(changed[0]).__name__} is changed in place")
            outputs = [output for _, _, output, _ in self._calls]
            gradients = torch.autograd.grad(loss, outputs, allow_unused=True)
            with torch.no_grad():
                pending = self._pending(gradients, len(images))
                self.numbers = sum(gradient.numbers for gradient in pending.values())
                nothing = torch.zeros(len(images), dtype=torch.float64, device=images.device)
                squares = sum((gradient.squares() for gradient in pending.values()), start=nothing)
                weights = clip_weights(squares, max_grad_norm, loss.dtype)
                total = [
                    pending[id(parameter)].total(weights).reshape(parameter.shape)
                    if id(parameter) in pending
                    else torch.zeros_like(parameter)
                    for parameter in self.parameters
                ]
                return total, squares
        finally:
            self._calls.clear()

    def _remember(self, layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
        given = inputs[0] if inputs else named["input"]  # as all layers with rules call it
        self._calls.append((layer, given.detach(), output, output._version))

    def _pending(self, gradients: Sequence[Tensor | None], batch: int) -> dict[int, Pending]:
        """Per-example gradients by parameter; of one used in several places they are formed and added up."""
        pending: dict[int, list[Pending]] = {}
        for (layer, inputs, output, _), gradient in zip(self._calls, gradients, strict=True):
            if gradient is None:
                continue
            dtype = next(layer.parameters()).dtype  # under autocast, activations have another
            if inputs.dtype.is_complex or inputs.ndim < 2 or not len(inputs) == len(output) == batch:
                raise UnsupportedError(f"a {type(layer).__name__} does not keep the batch as its first axis")
            for parameter, use in RULES[type(layer)](layer, inputs.to(dtype), gradient.to(dtype)):
                pending.setdefault(id(parameter), []).append(use)
        return {key: uses[0] if len(uses) == 1 else _added(uses) for key, uses in pending.items()}


def _added(uses: Sequence[Pending]) -> Pending:
    return Formed(torch.stack([use.formed() for use in uses]).sum(0))


class Functional(ClippedSum):
    """`vmap` over the gradient of one example: for any model that it can run, whatever its layers."""

    words = "torch.func"

    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        fixed = {name: p.detach() for name, p in self.module.named_parameters() if not p.requires_grad}
        fixed |= dict(self.module.named_buffers())
        trained = {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}

        def loss(parameters: dict[str, Tensor], image: Tensor, *target: Tensor) -> Tensor:
            with self.precision():
                logits = functional_call(self.module, (parameters, fixed), (image[None],))
            return criterion(logits, *(row[None] for row in target))[0]

        try:
            rows = vmap(grad(loss), in_dims=(None, 0, *(0 for _ in targets)))(trained, images, *targets)
        except Exception as error:  # whatever a user's module does under vmap
            raise UnsupportedError(f"vmap: {type(error).__name__}: {error}".splitlines()[0]) from error
        flat = [rows[name].reshape(len(images), -1) for name in trained]
        self.numbers = 2 * sum(part.shape[1] for part in flat)
        squares = torch.stack([squared_norms(part) for part in flat]).sum(0)
        weights = clip_weights(squares, max_grad_norm, flat[0].dtype)
        total = [(weights @ part).view(given.shape) for part, given in zip(flat, trained.values(), strict=True)]
        return total, squares


class OneByOne(ClippedSum):
    """One backward pass for each example: slow, and right wherever examples do not depend on each other."""

    words = "one example at a time"

    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        total, norms = [torch.zeros_like(parameter) for parameter in self.parameters], []
        for place in range(len(images)):
            row = slice(place, place + 1)
            with torch.enable_grad():
                with self.precision():
                    logits = self.module(images[row])
                loss = criterion(logits, *(target[row] for target in targets)).sum()
            gradient = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
            squares = torch.stack([squared_norms(part.reshape(1, -1)) for part in gradient]).sum()
            weight = clip_weights(squares[None], max_grad_norm, gradient[0].dtype)[0]
            norms.append(squares)
            for sum_, part in zip(total, gradient, strict=True):
                sum_.add_(part * weight)
        return total, torch.stack(norms)


@torch.no_grad()
def check_independent(module: nn.Module, images: Float[Tensor, "two ..."], precision: Precision = nullcontext) -> None:
    """Refuse a model in which examples depend on each other: clipping bounds nothing there.

    Args:
        module: in train mode. Its buffers may change.
        images: two different ones, to see whether what the second is makes a difference to the first.
        precision: a context for forward passes.

    Raises:
        InputError: a layer normalizes over the batch, or is seen to couple examples; names it.
    """
    cure = "its gradients cannot be clipped by example; expected norm: gn"
    for name, layer in module.named_modules():
        norm = isinstance(layer, nn.modules.batchnorm._BatchNorm) or getattr(layer, "track_running_stats", False)
        if norm and layer.training:  # in evaluation mode it normalizes by what it has kept
            kind = type(layer).__name__
            raise InputError(f"DP-SGD: layer {name!r} ({kind}) makes an example's loss depend on the others'; {cure}")
    outputs: list[list[tuple[str, Tensor]]] = []
    for other in (images, torch.stack([images[0], -images[1] - 1])):
        seen: list[tuple[str, Tensor]] = []
        handles = [
            layer.register_forward_hook(_recorder(name, seen)) for name, layer in module.named_modules() if name != ""
        ]
        try:
            with seeded(0, images.device), precision():  # equal draws, for models that draw
                seen.append(("", module(other)))
        finally:
            for handle in handles:
                handle.remove()
        outputs.append(seen)
    for (name, first), (_, second) in zip(*outputs, strict=False):
        if first.shape == second.shape and len(first) == 2 and not _close(first[0], second[0]):
            where = f"layer {name!r}" if name else "the model"
            raise InputError(f"DP-SGD: {where} makes what it gives for an example depend on the others; {cure}")


def _recorder(name: str, seen: list[tuple[str, Tensor]]) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((name, output.detach().clone()))

    return hook


def _close(first: Tensor, second: Tensor) -> bool:
    scale = float(first.abs().max()) if first.numel() else 0.0
    return bool(torch.allclose(first, second, rtol=0, atol=1e-4 * scale + 1e-12, equal_nan=True))
