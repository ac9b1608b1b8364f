"""Row spaces from random combinations, against the singular value decomposition."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.matching import features
from fedsec.matching.row_space import row_space


@given(st.integers(1, 5), st.integers(8, 30), st.integers(8, 30), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_it_is_exact_where_the_rank_is_small(rank: int, rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(size, rank, generator=generator, dtype=torch.double) for size in (rows, columns))
    matrix = left @ right.T
    basis = row_space(matrix, rank + 2)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.double))
    torch.testing.assert_close(matrix @ basis.T @ basis, matrix)


def test_leading_values_of_a_noisy_matrix(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, 3, generator=generator, dtype=torch.double) for size in (60, 50))
    matrix = left @ right.T + 1e-4 * torch.randn(60, 50, generator=generator, dtype=torch.double)
    slow = features._leading(matrix, 3)
    monkeypatch.setattr(features, "_SMALL", 10)
    fast = features._leading(matrix, 3)
    torch.testing.assert_close(fast[0], slow[0])
    torch.testing.assert_close(fast[1].T @ fast[1], slow[1].T @ slow[1], atol=1e-6, rtol=0)
    assert abs(fast[2] / slow[2] - 1) < 1e-6
