"""Whether a GPU may round float32 products to TF32, 10 bits of 23: PyTorch lets convolutions do so by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["arithmetic", "tf32_allowed"]


@contextmanager
def arithmetic(device: torch.device | str, *, tf32: bool = False) -> Iterator[None]:
    """Allow TF32 or forbid it while this lasts. The switches belong to the process and are put back afterwards.

    Args:
        device: where is computed; nothing happens but for a GPU.
        tf32: whether products may be rounded.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    before = [(owner, name, getattr(owner, name)) for owner, name in _switches()]
    try:
        for owner, name, _ in before:
            setattr(owner, name, tf32 if name == "allow_tf32" else "tf32" if tf32 else "ieee")
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def tf32_allowed() -> bool:
    """Whether a GPU may round products now."""
    return any(getattr(owner, name) in (True, "tf32") for owner, name in _switches())


def _switches() -> list[tuple[Any, str]]:
    """Where PyTorch keeps what may use TF32: by operation from 2.9 on, where reading the older switches would fail."""
    backends = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        owners: list[Any] = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]  # type: ignore[attr-defined]
        return [(owner, "fp32_precision") for owner in owners]
    return [(backends.cuda.matmul, "allow_tf32"), (backends.cudnn, "allow_tf32")]
