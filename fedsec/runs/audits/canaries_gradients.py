"""Gradients of single examples at a model that others train, some rows at a time."""

from collections.abc import Iterator, Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedsec.engine.parameters import ParameterLayout
from fedsec.tasks import Task

CHUNK_BYTES = 1 << 27
"""Of gradients that are held at a time, about."""
_AT_ONCE = 256
"""Examples of which losses are computed at a time."""


class CanaryGradients:
    """Per-example gradients of a model in evaluation mode: nothing is drawn, and no example depends on another.

    A model that trains otherwise (dropout, batch normalization) has somewhat other gradients in training; whoever
    compares with them sees less, and never more than there is.

    Args:
        module: the architecture.
        layout: of its trainable parameters.
        task: gives each example's loss.
    """

    def __init__(self, module: nn.Module, layout: ParameterLayout, task: Task) -> None:
        self._module, self.layout, self.task = deepcopy(module).eval(), layout, task
        self._whole = True

    def rows(
        self, parameters: Float[Tensor, "parameters"], buffers: Mapping[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> Iterator[Float[Tensor, "some parameters"]]:
        """Each example's gradient, a row each, in chunks.

        Args:
            parameters: of the model.
            buffers: what else it has, by name.
            inputs: normalized.
            targets: theirs.
        """
        size = max(1, CHUNK_BYTES // (parameters.element_size() * parameters.numel()))
        for begin in range(0, len(targets), size):
            part = slice(begin, begin + size)
            yield self._rows(parameters, buffers, inputs[part], targets[part])

    @torch.no_grad()
    def losses(
        self, parameters: Float[Tensor, "parameters"], buffers: Mapping[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> Float[Tensor, "examples"]:
        """Each example's loss; arguments as above."""
        everything = {**self.layout.views(parameters), **buffers}
        losses = [
            self.task.losses(functional_call(self._module, everything, (some,)), theirs)
            for some, theirs in zip(torch.split(inputs, _AT_ONCE), torch.split(targets, _AT_ONCE), strict=True)
        ]
        return torch.cat(losses)

    def _rows(
        self, parameters: Tensor, buffers: Mapping[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> Float[Tensor, "some parameters"]:
        trained = self.layout.views(parameters.detach())

        def loss(values: Mapping[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
            outputs = functional_call(self._module, {**values, **buffers}, (one[None],))
            return self.task.losses(outputs, target[None])[0]

        gradient = grad(loss)
        if self._whole:
            try:
                with sdpa_kernel(SDPBackend.MATH):
                    rows = vmap(gradient, in_dims=(None, 0, 0))(trained, inputs, targets)
                return torch.cat([rows[name].flatten(1) for name in self.layout.shapes], 1)
            except RuntimeError:  # a model that vmap cannot run: one example after the other gives the same
                self._whole = False
        singles = [gradient(trained, one, target) for one, target in zip(inputs, targets, strict=True)]
        return torch.stack([torch.cat([one[name].flatten() for name in self.layout.shapes]) for one in singles])


def clipped(rows: Float[Tensor, "some parameters"], bound: float | None) -> Float[Tensor, "some parameters"]:
    """Rows no longer than the bound; as they are without one. What is not finite becomes zero, as in DP-SGD."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = torch.where(norms.isfinite(), rows, 0)
    return rows if bound is None else rows * (bound / norms.clamp_min(bound))
