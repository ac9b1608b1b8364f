"""Opacus's four ways to per-example gradients; clipping, noise and averaging stay ours, so that all give one update.

Yousefpour et al.: Opacus: User-Friendly Differential Privacy Library in PyTorch. 2021, arXiv:2109.12298.
"""

import copy
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.privacy.gradients.clipping import (
    ClippedSum,
    Criterion,
    Precision,
    UnsupportedError,
    clip_weights,
    squared_norms,
)


class OpacusSum(ClippedSum):
    """Opacus's per-example gradients: all of them are formed, and kept until they are clipped.

    Args:
        module: is given hooks; use a `twin`.
        precision: a context for forward passes.
        mode: `hooks`, `functorch` or `ew`.
    """

    words = "Opacus"

    def __init__(self, module: nn.Module, precision: Precision = nullcontext, mode: str = "hooks") -> None:
        super().__init__(module, precision)
        from opacus.grad_sample import GradSampleModule
        from opacus.grad_sample.gsm_exp_weights import GradSampleModuleExpandedWeights

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if mode == "ew":
                    self._wrapped: Any = GradSampleModuleExpandedWeights(module, loss_reduction="sum")
                else:
                    force = mode == "functorch"
                    self._wrapped = GradSampleModule(module, loss_reduction="sum", force_functorch=force)
        except Exception as error:  # whatever Opacus finds wrong with a model
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of PyTorch about the kind of hooks Opacus uses
                with self.precision():
                    logits = self._wrapped(images)
                torch.autograd.backward(criterion(logits, *targets).sum())
            rows = [_rows(parameter, len(images)) for parameter in self.parameters]
        except UnsupportedError:
            raise
        except Exception as error:
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        finally:
            _forget(self.parameters)
        self.numbers = 2 * sum(part.shape[1] for part in rows)
        squares = torch.stack([squared_norms(part) for part in rows]).sum(0)
        weights = clip_weights(squares, max_grad_norm, rows[0].dtype)
        total = [(weights @ part).view(given.shape) for part, given in zip(rows, self.parameters, strict=True)]
        return total, squares


class OpacusGhost(ClippedSum):
    """Opacus's ghost clipping: norms without gradients, and a second backward pass of the reweighted loss.

    In float64, on a copy of the parameters: its norms come from Gram matrices, which in float32 cancel where a layer's
    inputs hardly differ from place to place, and then let gradients pass that are longer than the bound.
    """

    words = "Opacus"

    def __init__(self, module: nn.Module, precision: Precision = nullcontext) -> None:
        super().__init__(module, precision)
        from opacus.grad_sample import GradSampleModuleFastGradientClipping

        self._copy = copy.deepcopy(module).double()
        self._trained = [parameter for parameter in self._copy.parameters() if parameter.requires_grad]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._wrapped: Any = GradSampleModuleFastGradientClipping(self._copy, loss_reduction="sum")
        except Exception as error:
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._follow()
                logits = self._wrapped(images.double())
                losses = criterion(logits, *targets)
                torch.autograd.backward(losses.sum(), retain_graph=True)
                norms = self._wrapped.get_norm_sample().double()
                self._wrapped.disable_hooks()
                weights = clip_weights(norms.square(), max_grad_norm)  # for gradients that end in float32
                for parameter in self._trained:
                    parameter.grad = None
                torch.autograd.backward((weights * losses).sum())
            pairs = zip(self.parameters, self._trained, strict=True)
            total = [
                torch.zeros_like(own) if ours.grad is None else ours.grad.detach().to(own.dtype) for own, ours in pairs
            ]
            return total, norms.detach().square()
        except Exception as error:
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        finally:
            self._wrapped.enable_hooks()
            _forget(self._trained)

    @torch.no_grad()
    def _follow(self) -> None:
        """Take over the parameters and buffers as they are now."""
        theirs = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        for name, tensor in [*self._copy.named_parameters(), *self._copy.named_buffers()]:
            tensor.copy_(theirs[name])


def _rows(parameter: nn.Parameter, batch: int) -> Float[Tensor, "batch numbers"]:
    rows = getattr(parameter, "grad_sample", None)
    if rows is None:
        return torch.zeros(batch, parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    if not isinstance(rows, Tensor) or len(rows) != batch:
        raise UnsupportedError("a layer that is used several times in one forward pass")
    return rows.detach().reshape(batch, -1)


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
        if hasattr(parameter, "grad_sample"):
            parameter.grad_sample = None
        if hasattr(parameter, "_norm_sample"):
            parameter._norm_sample = None
