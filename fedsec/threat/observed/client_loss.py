"""What a client minimizes, as far as an attacker needs to know it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.errors import InputError

__all__ = ["ClientLoss", "Reduction", "client_loss", "smoothed_cross_entropy", "smoothed_labels"]

Reduction = Literal["mean", "sum"]

Losses = Callable[[Tensor, Tensor], Tensor]
"""(outputs [batch, classes], targets) -> loss of each example [batch]."""


@dataclass(frozen=True)
class ClientLoss:
    """The loss of each example, and what its gradient compares with the labels.

        d loss / d outputs = slope(classes) * (prediction(outputs) - onehot(label))

    Args:
        name: for messages; "cross_entropy" is what fast paths are written for.
        losses: (outputs [batch, classes], targets) -> [batch]; targets are int64 labels [batch] or probabilities
            [batch, classes].
        prediction: see above; None where the gradient has no such form, so that no label can be read from it.
        slope: see above.
        smoothing: share of each label that is spread over all classes, of a cross-entropy; `prediction` and `slope`
            are then what makes the line above true of labels that are not smoothed.
    """

    name: str
    losses: Losses
    prediction: Callable[[Tensor], Tensor] | None = None
    slope: Callable[[int], float] = lambda classes: 1.0
    smoothing: float = 0.0

    @property
    def softmax(self) -> bool:
        """Whether its gradient at the outputs is their softmax minus the labels, be they smoothed."""
        return self.name in ("cross_entropy", "nll") or self.smoothing > 0

    def mean(self, outputs: Float[Tensor, "batch classes"], targets: Tensor) -> Float[Tensor, ""]:
        """The mean loss of a batch."""
        if self.name == "cross_entropy":
            return F.cross_entropy(outputs, targets)
        return self.losses(outputs, targets).mean()

    def sum(self, outputs: Float[Tensor, "batch classes"], targets: Tensor) -> Float[Tensor, ""]:
        """The loss of a batch, summed over its examples."""
        if self.name == "cross_entropy":
            return F.cross_entropy(outputs, targets, reduction="sum")
        return self.losses(outputs, targets).sum()


def _probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """Labels as one-hot rows; probabilities as they are."""
    if targets.is_floating_point():
        return targets
    classes = torch.arange(outputs.shape[-1], device=outputs.device)
    return (targets[..., None] == classes).to(outputs)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(outputs * _probabilities(outputs, targets)).sum(-1)


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - _probabilities(outputs, targets)).square().mean(-1)


def _bce(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, _probabilities(outputs, targets), reduction="none").mean(-1)


def _softmax(outputs: Tensor) -> Tensor:
    return outputs.softmax(-1)


def _itself(outputs: Tensor) -> Tensor:
    return outputs


_KNOWN = {
    "cross_entropy": ClientLoss("cross_entropy", _cross_entropy, _softmax),
    # Of a model that ends in log_softmax, whose logits are those before it.
    "nll": ClientLoss("nll", _nll, _softmax),
    "mse": ClientLoss("mse", _mse, _itself, lambda classes: 2 / classes),
    "bce": ClientLoss("bce", _bce, torch.sigmoid, lambda classes: 1 / classes),
}


@lru_cache
def smoothed_cross_entropy(smoothing: float) -> ClientLoss:
    """Cross-entropy with labels of which a share is spread over all classes; the very same loss for the same share.

        d loss / d outputs = softmax - (1 - s) onehot - s / K = (1 - s) ((softmax - s / K) / (1 - s) - onehot)

    Args:
        smoothing: s; with 0 the plain cross-entropy.

    Raises:
        InputError: it does not lie in [0, 1).

    Reference: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, arXiv:1512.00567
    """
    if not 0 <= smoothing < 1:
        raise InputError(f"Observation: label smoothing must lie in [0, 1), got {smoothing}")
    if not smoothing:
        return _KNOWN["cross_entropy"]
    return ClientLoss(
        f"cross_entropy with label smoothing {smoothing:g}",
        partial(F.cross_entropy, reduction="none", label_smoothing=smoothing),
        lambda outputs: (outputs.softmax(-1) - smoothing / outputs.shape[-1]) / (1 - smoothing),
        lambda classes: 1 - smoothing,
        smoothing,
    )


def smoothed_labels(labels: Int64[Tensor, "*batch"], classes: int, smoothing: float) -> Float[Tensor, "*batch classes"]:
    """Labels as probabilities, a share of each spread over all classes.

    Args:
        labels: of examples.
        classes: how many there are.
        smoothing: that share.
    """
    return (1 - smoothing) * F.one_hot(labels, classes) + smoothing / classes


def client_loss(loss: Any) -> ClientLoss:
    """A loss by its name, or the user's own.

    Args:
        loss: `cross_entropy`; PyTorch's `nn.CrossEntropyLoss()` without weights, which may smooth labels; `nll` (on
            log-probabilities); `mse` and `bce` (on one-hot labels, mean over classes, the
            latter on logits); a function of (outputs, labels) that gives each example's loss; or an object with such a
            method `losses`. One that computes what a known loss computes is taken for it.

    Raises:
        InputError: an unknown name, or something that does not give one loss an example.
    """
    if isinstance(loss, ClientLoss):
        return loss
    if isinstance(loss, str):
        if loss not in _KNOWN:
            raise InputError(f"Observation: loss must be one of {', '.join(_KNOWN)}, or a function, got {loss!r}")
        return _KNOWN[loss]
    if isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None and loss.ignore_index < 0:
        return smoothed_cross_entropy(loss.label_smoothing)
    losses = getattr(loss, "losses", loss)
    if not callable(losses):
        raise InputError(f"Observation: loss must be a name, a function or a task with `losses`, got {loss!r}")
    return _recognized(losses)


def _recognized(losses: Losses) -> ClientLoss:
    """The known loss that gives the same on random outputs, else one of which nothing more is known."""
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 1])
    try:
        values = losses(outputs, labels)
    except (RuntimeError, TypeError, ValueError, IndexError):
        values = None  # it may need more classes than three, or targets of another kind
    if values is not None:
        if not isinstance(values, Tensor) or values.shape != labels.shape:
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"Observation: loss must give one number an example, shape (4,) for outputs of shape (4, 3), got {got};"
                ' expected reduction="none" inside it, and mean or sum as `reduction` here'
            )
        for known in _KNOWN.values():
            if torch.allclose(values, known.losses(outputs, labels), rtol=1e-5, atol=1e-6):
                return known
    return ClientLoss(getattr(losses, "__name__", type(losses).__name__), losses)
