"""Dropout that a model calls as a function: no module tells of it, so the model is run once and listened to."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["calls_dropout"]

_NAMES = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")


class _Listener(TorchFunctionMode):
    """Notices calls that draw masks."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = False

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.heard |= _draws(getattr(function, "__name__", ""), args, kwargs)
        return function(*args, **kwargs)


def _draws(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name == "scaled_dot_product_attention":
        share = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
        return float(share) > 0
    if name.removesuffix("_") not in _NAMES:
        return False
    share = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))
    return bool(training) and float(share) > 0


def calls_dropout(model: nn.Module, images: Tensor) -> bool:
    """Whether a model of someone's own draws the masks of dropout in its present mode.

    Args:
        model: left as it is; one that consists of PyTorch's modules alone is not run.
        images: to run it on. Where it cannot take them, the answer is no: an attack says why it cannot.
    """
    own = [module for module in model.modules() if not type(module).__module__.startswith("torch.")]
    if not any(module.training for module in own):
        return False
    listener = _Listener()
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), listener:
        try:
            deepcopy(model)(images)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError):
            return False
    return listener.heard
