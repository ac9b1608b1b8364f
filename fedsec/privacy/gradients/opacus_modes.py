"""Opacus's four ways to per-example gradients; clipping, noise and averaging stay ours, so that all give one update.

Yousefpour et al.: Opacus: User-Friendly Differential Privacy Library in PyTorch. 2021, arXiv:2109.12298.
"""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.privacy.gradients.clipping import ClippedSum, Criterion, Precision, UnsupportedError, clip_weights


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
            rows = [_rows(each, len(images)) for each in self.parameters]
        except UnsupportedError:
            raise
        except Exception as error:
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        finally:
            _forget(self.parameters)
        self.numbers = 2 * sum(each.shape[1] for each in rows)
        squares = torch.stack([each.square().sum(1) for each in rows]).sum(0)
        weights = clip_weights(squares, max_grad_norm)
        total = [(weights @ each).view(given.shape) for each, given in zip(rows, self.parameters, strict=True)]
        return total, squares


class OpacusGhost(ClippedSum):
    """Opacus's ghost clipping: norms without gradients, and a second backward pass of the reweighted loss."""

    words = "Opacus"

    def __init__(self, module: nn.Module, precision: Precision = nullcontext) -> None:
        super().__init__(module, precision)
        from opacus.grad_sample import GradSampleModuleFastGradientClipping

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._wrapped: Any = GradSampleModuleFastGradientClipping(module, loss_reduction="sum")
        except Exception as error:
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def total(
        self, images: Float[Tensor, "batch ..."], targets: Sequence[Tensor], criterion: Criterion, max_grad_norm: float
    ) -> tuple[list[Tensor], Float[Tensor, "batch"]]:
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with self.precision():
                    logits = self._wrapped(images)
                losses = criterion(logits, *targets)
                torch.autograd.backward(losses.sum(), retain_graph=True)
                norms = self._wrapped.get_norm_sample().to(losses.dtype)
                self._wrapped.disable_hooks()
                weights = clip_weights(norms.square(), max_grad_norm)
                for each in self.parameters:
                    each.grad = None
                torch.autograd.backward((weights * losses).sum())
            total = [torch.zeros_like(each) if each.grad is None else each.grad.detach() for each in self.parameters]
            return total, norms.detach().square()
        except Exception as error:
            raise UnsupportedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        finally:
            self._wrapped.enable_hooks()
            _forget(self.parameters)


def _rows(parameter: nn.Parameter, batch: int) -> Float[Tensor, "batch numbers"]:
    found = getattr(parameter, "grad_sample", None)
    if found is None:
        return torch.zeros(batch, parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    if not isinstance(found, Tensor) or len(found) != batch:
        raise UnsupportedError("a layer that is used several times in one forward pass")
    return found.detach().reshape(batch, -1)


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for each in parameters:
        each.grad = None
        if hasattr(each, "grad_sample"):
            each.grad_sample = None
        if hasattr(each, "_norm_sample"):
            each._norm_sample = None
