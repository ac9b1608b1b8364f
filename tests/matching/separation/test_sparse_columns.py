"""Columns with many zeros are found in a product that hides them, and mixtures of them are not taken for columns."""

import pytest
import torch
from torch import Tensor

from fedsec.matching.limits import Deadline
from fedsec.matching.separation.sparse_columns import SparseColumns, search_sparse_columns


def hidden(rank: int, rows: int, seed: int, alike: float = 0.0) -> tuple[Tensor, Tensor]:
    """A matrix D Q^-1 and the unit columns of Q; neighbors in D vanish in the same rows but for a share of them."""
    generator = torch.Generator().manual_seed(seed)
    awake = torch.rand(rows, rank, generator=generator) < 0.5
    for column in range(1, rank):
        same = torch.rand(rows, generator=generator) < alike
        awake[:, column] = torch.where(same, awake[:, column - 1], awake[:, column])
    awake = awake[awake.any(1)]
    sparse = torch.randn(awake.shape, generator=generator, dtype=torch.double) * awake
    mixing = torch.randn(rank, rank, generator=generator, dtype=torch.double)
    return sparse @ torch.linalg.inv(mixing), (mixing / mixing.norm(dim=0)).T


def last(factor: Tensor, precision: float = 1e-10, draws: int = 100_000, seconds: float | None = None) -> SparseColumns:
    """What is known once it is complete, or in the end."""
    generator = torch.Generator().manual_seed(0)
    search = search_sparse_columns(
        factor, precision=precision, generator=generator, deadline=Deadline(seconds), draws=draws
    )
    known = next(search)
    while not known.complete and (further := next(search, None)) is not None:
        known = further
    return known


@pytest.mark.parametrize(
    ("rank", "rows", "alike"), [(1, 5, 0.0), (2, 60, 0.0), (6, 200, 0.0), (4, 300, 0.7), (9, 400, 0.3)]
)
def test_every_column_is_found_and_nothing_else(rank: int, rows: int, alike: float) -> None:
    factor, columns = hidden(rank, rows, rank, alike)
    known = last(factor)
    assert known.complete
    cosines = (known.directions @ columns.T).abs()
    torch.testing.assert_close(cosines.amax(1), torch.ones(rank, dtype=torch.double), rtol=0, atol=1e-12)
    assert cosines.argmax(1).unique().numel() == rank
    torch.testing.assert_close(known.zeros, (factor @ known.directions.T).T.abs() < 1e-9)


def test_rounding_is_no_obstacle() -> None:
    factor, columns = hidden(6, 200, 0)
    known = last(factor.float().double(), precision=1.2e-7)
    assert known.complete
    assert float((known.directions @ columns.T).abs().amax(1).min()) > 1 - 1e-10


def test_the_first_columns_make_the_others_cheap() -> None:
    factor, _ = hidden(14, 800, 1)
    known = last(factor)
    assert known.complete
    # Drawing among all rows takes 2^13 (1 + 1/2 + ... + 1/14) draws on average.
    assert known.draws < 2**13


def test_without_zeros_nothing_is_found() -> None:
    dense = torch.randn(200, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    known = last(dense, draws=5000)
    assert not known.complete
    assert not len(known.directions)
    assert 5000 <= known.draws < 6000


def test_the_time_ends_it_after_a_turn() -> None:
    factor, _ = hidden(20, 400, 0)
    assert last(factor, draws=10**9, seconds=1e-9).draws == 512
