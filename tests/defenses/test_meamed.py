"""Meamed against a slow oracle in exact arithmetic, and its kernel for counts below one half, as Bulyan asks for."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Scratch, near_median_mean, near_median_share
from fedsec.defenses import Meamed, Median
from fedsec.errors import AggregationError, InputError

QUICK = settings(deadline=None, max_examples=30)


def by_hand(column: list[float], count: int) -> tuple[float, list[float]]:
    """Mean and shares; where the last places are tied for from both sides, the mean of both ways."""
    values = sorted(map(Fraction, column))
    rows = len(values)
    median = (values[(rows - 1) // 2] + values[rows // 2]) / 2
    weights = {rank: Fraction(0) for rank in range(rows)}
    for side in (1, -1):  # of values equally far, first the smaller ones, then the larger ones
        nearest = sorted(range(rows), key=lambda rank: (abs(values[rank] - median), side * values[rank]))
        for rank in nearest[:count]:
            weights[rank] += Fraction(1, 2)
    mean = sum(weights[rank] * values[rank] for rank in range(rows)) / count
    shares = []
    for value in map(Fraction, column):
        equal = [rank for rank in range(rows) if values[rank] == value]
        shares.append(float(sum(weights[rank] for rank in equal) / len(equal) / count))
    return float(mean), shares


@QUICK
@given(st.integers(1, 13), st.integers(0, 10_000), st.booleans(), st.data())
def test_kernel_is_the_oracle(rows: int, seed: int, ties: bool, data: st.DataObject) -> None:
    count = data.draw(st.integers(1 if rows % 2 else 2, rows))
    rng = np.random.default_rng(seed)
    updates = torch.from_numpy(rng.integers(-3, 4, (rows, 12)) if ties else rng.standard_normal((rows, 12))).double()
    expected = [by_hand(column, count) for column in updates.T.tolist()]
    mean, share = near_median_mean(updates, count, Scratch()), near_median_share(updates, count, Scratch())
    np.testing.assert_allclose(mean.numpy(), [one for one, _ in expected], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(share.numpy(), np.mean([shares for _, shares in expected], 0), rtol=1e-6, atol=1e-7)


def test_golden_values() -> None:
    updates = torch.tensor([[0.0, -1], [1, 0], [2, 1], [10, 5], [11, -5]])
    # Around 2: 0, 1 and 2. Around 0: of -5 and 5, equally far, half of each would count; -1, 0 and 1 are nearer.
    assert Meamed(num_byzantine=2)(updates).tolist() == [1, 0]
    assert Meamed(num_byzantine=1)(updates).tolist() == [3.25, 0]
    assert Meamed(num_byzantine=1).aggregate(updates[:, 1:]).influence.tolist() == [0.25, 0.25, 0.25, 0.125, 0.125]
    assert Meamed(num_byzantine=0)(updates).tolist() == pytest.approx([4.8, 0])


def test_nothing_is_lost_beside_huge_values() -> None:
    updates = torch.tensor([[1.0], [1.5], [2.0], [3e38], [-3e38]])
    assert Meamed(num_byzantine=2)(updates).tolist() == [1.5]
    assert near_median_mean(updates, 1, Scratch()).tolist() == [1.5]
    assert Meamed(num_byzantine=1)(updates).isfinite().all()


def test_equal_rows_one_client_and_the_median() -> None:
    row = torch.tensor([0.1, -3.0, 7.0])
    torch.testing.assert_close(Meamed(num_byzantine=2)(row.repeat(5, 1)), row)
    assert torch.equal(Meamed(num_byzantine=0)(row[None]), row)
    updates = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    nearest = updates.sub(Median()(updates)).abs().sort(0).indices[:2]
    torch.testing.assert_close(Meamed(num_byzantine=1)(updates), updates.gather(0, nearest).mean(0))


def test_rejected_rows_are_byzantine() -> None:
    updates = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    broken = torch.cat([updates, torch.full((1, 20), torch.nan)])
    assert torch.equal(Meamed(num_byzantine=2)(broken), Meamed(num_byzantine=1)(updates))
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        Meamed(num_byzantine=0)(broken)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows(rows: int) -> None:
    with pytest.raises(InputError, match=f"num_byzantine 2 needs at least 5 rows, not {rows + 3}"):
        Meamed(num_byzantine=2)(torch.zeros(rows + 3, 2))
    with pytest.raises(InputError, match="must not be negative, but is -1"):
        Meamed(num_byzantine=-1)


def test_a_float32_result_is_that_of_float64() -> None:
    updates: Tensor = torch.randn(20, 2000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(Meamed(4)(updates), Meamed(4)(updates.double()).float(), rtol=1e-6, atol=1e-6)
