"""What the checks of `fedsec.testing` are made of: expectations that say what they expect, and random material."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from fedsec.errors import FedsecError

__all__ = [
    "devices",
    "expect",
    "expect_close",
    "expect_error",
    "global_randomness_untouched",
    "identical",
    "pictures",
    "random_matrix",
    "seeded",
]


def expect(condition: bool, expected: str) -> None:
    """An assertion that says what was expected."""
    if not condition:
        raise AssertionError(f"expected: {expected}")


def expect_close(actual: Tensor, wanted: Tensor, expected: str) -> None:
    """Equal but for rounding."""
    expect(torch.allclose(actual, wanted, rtol=1e-5, atol=1e-5), expected)


def expect_error(kind: type[FedsecError], call: Callable[[], object], why: str) -> None:
    """The call must be refused."""
    try:
        call()
    except kind:
        return
    raise AssertionError(f"expected: {kind.__name__}, because of {why}")


def identical(first: Tensor, second: Tensor) -> bool:
    """Equal in every entry, NaN in the same places."""
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """What runs inside draws from its own generators only."""
    before = _global_randomness()
    yield
    expect(_global_randomness() == before, "the global random state is left alone")


def _global_randomness() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def random_matrix(
    rows: int, columns: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0
) -> Tensor:
    """Normal numbers, the same ones on every device."""
    return torch.randn(rows, columns, generator=seeded(seed)).to(device, dtype)


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def devices() -> list[str]:
    """Where a class is tried."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def pictures(count: int, device: str) -> tuple[Tensor, Tensor]:
    """Bright shapes on dark ground and the other way round, [count, 1, 16, 16], and different labels."""
    axis = torch.linspace(-1, 1, 16)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    shapes = [rows**2 + columns**2 < 0.5, (rows.abs() < 0.4) | (columns > 0.6), rows > columns]
    drawn = [shapes[index % 3].float() * 0.8 + 0.1 for index in range(count)]
    images = torch.stack([1 - shape if index % 2 else shape for index, shape in enumerate(drawn)])
    return images[:, None].to(device), ((torch.arange(count) * 3 + 2) % 10).to(device)
