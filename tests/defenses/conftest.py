"""Rows that are hard for rules of distances."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

HardRows = Callable[[str, int, int, int], Tensor]


@pytest.fixture(scope="session")
def hard_rows() -> HardRows:
    """Makes float32 rows of a kind, by count, columns and seed; fewer than half of them lie far away.

    Kinds: normal, near (each other, not the origin), outliers, far (near ones and an outlier), ties, duplicates.
    """

    def rows_of(kind: str, count: int, columns: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(count, columns, generator=generator)
        few = torch.randperm(count, generator=generator)[: (count - 1) // 2]
        if kind in ("near", "far"):
            rows = 1000 + 1e-2 * rows
        if kind == "far":
            rows[few[:1]] = -1e12
        if kind == "outliers":
            rows[few] *= 1e15
        if kind == "ties":
            rows = (2 * rows).round()
        if kind == "duplicates":
            rows = rows[torch.randint(count, (count,), generator=generator)]
        return rows

    return rows_of
