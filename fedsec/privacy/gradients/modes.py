"""Which way a model's per-example gradients are formed: decided once, by trying."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.privacy.gradients.clipping import (
    BookKeeping,
    ClippedSum,
    Criterion,
    Functional,
    OneByOne,
    Precision,
    UnsupportedError,
    check_independent,
    twin,
)
from fedsec.privacy.private_training import GradSampleMode

TOLERANCE = 1e-3
"""How far a way's sum may lie from the slow one's, relative to its norm: rounding stays far below, mistakes do not."""
NEGLIGIBLE = 0.1
"""Share of the longest trial gradient below which others are not cut to equal length: they might be rounding alone."""
LOW_PRECISION = 5e-2
"""The same under autocast, where gradients of equal networks differ in their third digit."""


@dataclass(frozen=True)
class Way:
    """How per-example gradients are formed.

    Attributes:
        words: what it is called.
        reason: why not faster; empty if nothing is.
        make: (a `twin` of the module, precision) -> the sum.
        numbers: gradient numbers held for each example.
    """

    words: str
    reason: str
    make: Callable[[nn.Module, Precision], ClippedSum]
    numbers: int = 0


def choose(
    module: nn.Module,
    mode: GradSampleMode,
    images: Float[Tensor, "batch ..."],
    targets: Sequence[Tensor],
    criterion: Criterion,
    *,
    precision: Precision = nullcontext,
    exact: bool = True,
    draws: bool = False,
) -> Way:
    """The way a mode names, or the fastest one that gives the same sum as one example at a time does.

    Args:
        module: in train mode; not changed.
        mode: see `PrivateTraining`.
        images: a few, at least two; what is tried.
        targets: theirs.
        criterion: gives each example's loss.
        precision: a context for forward passes.
        exact: whether that computes in full precision.
        draws: whether the model draws random numbers. Ways draw in different orders and cannot be compared, so that
            only one example at a time is left: its gradient is clipped whatever was drawn for it, and what is drawn
            depends on no example.

    Raises:
        InputError: examples depend on each other, or the mode cannot handle the model.
    """
    check_independent(twin(module), images[:2], precision)
    if draws:
        if mode != "auto":
            raise InputError(
                f"grad_sample_mode: {mode} cannot be had for a model that draws random numbers; expected auto"
            )
        return Way(OneByOne.words, "the model draws random numbers while it trains", OneByOne)
    slow = OneByOne(twin(module), precision)
    bounds = _bounds(slow.total(images, targets, criterion, 1.0)[1].sqrt())
    expected = [slow(images, targets, criterion, bound) for bound in bounds]
    flat = _near_constant(images)
    reasons = []
    for words, make in _ways(mode):
        try:
            tried = make(twin(module), precision)
            sums = [tried(images, targets, criterion, bound) for bound in bounds]
            numbers = tried.numbers
        except UnsupportedError as error:
            reasons.append(f"no {words}: {error}")
            continue
        except Exception as error:  # whatever a user's module does to a rule, a slower way may still have it
            reasons.append(f"no {words}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        tolerance = TOLERANCE if exact else LOW_PRECISION
        off = max(map(_distance, sums, expected))
        if off > tolerance:
            reasons.append(f"no {words}: it is off by {off:.1g} of the sum")
        elif not _bounded(tried, slow, flat, targets, criterion, tolerance):
            reasons.append(f"no {words}: it underestimates the norm of a near-constant image's gradient")
        else:
            return Way(words, "; ".join(reasons), make, numbers)
    raise InputError(f"grad_sample_mode: {mode} cannot be had for this model ({'; '.join(reasons)}); expected auto")


def _ways(mode: GradSampleMode) -> list[tuple[str, Callable[[nn.Module, Precision], ClippedSum]]]:
    from fedsec.privacy.gradients.opacus_modes import OpacusGhost, OpacusSum

    if mode == "auto":
        return [(kind.words, kind) for kind in (BookKeeping, Functional, OneByOne)]
    if mode == "ghost":
        return [("Opacus's ghost", OpacusGhost)]
    return [(f"Opacus's {mode}", lambda module, precision: OpacusSum(module, precision, mode))]


def _bounds(norms: Float[Tensor, "batch"]) -> list[float]:
    """Clipping bounds to try: one, and one that clips all but negligible gradients, so that wrong norms show."""
    counted = norms[norms.isfinite()]
    counted = counted[counted > NEGLIGIBLE * counted.max()] if len(counted) else counted
    return [1.0, float(counted.min()) / 2] if len(counted) else [1.0]


def _near_constant(images: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """As many images of one level each, of the scale of the given ones, that differ from it by a ten-thousandth.

    Before a normalization the gradients of such images are small differences of large numbers.
    """
    scale = float(images[images.isfinite()].abs().max()) if bool(images.isfinite().any()) else 1.0
    steps = torch.linspace(-1, 1, images[0].numel(), device=images.device, dtype=images.dtype)
    ripple = (97 * steps).sin().view(images.shape[1:])
    levels = scale * torch.linspace(0.3, 1, len(images), device=images.device, dtype=images.dtype)
    return levels.view(-1, *[1] * (images.ndim - 1)) * (1 + 1e-4 * ripple)


def _bounded(
    way: ClippedSum, slow: ClippedSum, images: Tensor, targets: Sequence[Tensor], criterion: Criterion, tolerance: float
) -> bool:
    """Whether a way takes no gradient for shorter than it is."""
    try:
        theirs = way.total(images, targets, criterion, 1.0)[1]
    except Exception:  # what fails here would fail in training
        return False
    true = slow.total(images, targets, criterion, 1.0)[1]
    known = true.isfinite() & theirs.isfinite()
    return bool((theirs[known].sqrt() >= (1 - tolerance) * true[known].sqrt()).all())


def _distance(sums: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    missed = torch.stack([(a - b).square().sum() for a, b in zip(sums, expected, strict=True)]).sum().sqrt()
    size = torch.stack([part.square().sum() for part in expected]).sum().sqrt()
    return float(missed / size) if float(size) > 0 else float(missed)
