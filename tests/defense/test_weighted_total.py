"""Weighted sums of long rows against float64."""

import pytest
import torch
from torch import Tensor

from fedsec.defense import weighted_total
from fedsec.defenses import Mean, MultiKrum
from fedsec.errors import AggregationError

LONG = (1 << 19) + 77


def normal(rows: int, columns: int = LONG, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("columns", [50, LONG])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_of_rows(columns: int, dtype: torch.dtype) -> None:
    rows, others = normal(5, columns).to(dtype), normal(2, columns, 1).to(dtype)
    precision = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 0.01}[dtype]
    for points in (
        [(rows, [0.1, 0.2, 0.3, 0.0, 0.4])],
        [(rows, [0.0, 1.0, 0.0, 0.0, 0.0])],
        [(rows, [0.1, 0.1, 0.2, 0.2, 0.1]), (others, [0.0, 0.3])],
    ):
        expected = sum(torch.tensor(some, dtype=torch.float64) @ matrix.double() for matrix, some in points)
        assert (weighted_total(points).double() - expected).abs().max() < 4 * precision
    assert not weighted_total([(rows, [0.0] * 5)]).any()


@pytest.mark.parametrize("columns", [50, LONG])
def test_weights_that_float32_does_not_hold(columns: int) -> None:
    """Of a row that is shortened by much, or made much longer."""
    rows = normal(4, columns)
    rows[0] *= 1e-42 / rows[0].abs().max()
    rows[1] *= 3e38 / rows[1].abs().max()
    weights = [1e42, 0.7e-45, 0.5, 0.25]
    expected = torch.tensor(weights, dtype=torch.float64) @ rows.double()
    torch.testing.assert_close(weighted_total([(rows, weights)]), expected.float(), rtol=1e-5, atol=1e-6)
    both = weighted_total([(rows[2:], weights[2:]), (rows[:2], weights[:2])])
    torch.testing.assert_close(both, expected.float(), rtol=1e-5, atol=1e-6)


def test_the_sum_does_not_depend_on_threads() -> None:
    rows, threads, weights = normal(7), torch.get_num_threads(), [0.2, 0.1, 0.1, 0.2, 0.1, 0.2, 0.1]
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(weighted_total([(rows, weights)]))
    torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results)


def test_the_largest_numbers_stay_finite() -> None:
    largest = torch.finfo(torch.float32).max
    rows = torch.full((10, LONG), largest)
    for total in (weighted_total([(rows, [0.1] * 10)]), Mean()(rows), MultiKrum(2)(rows)):
        assert total.isfinite().all()
        assert total.min() > 0.99 * largest


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("weights", [[1.0, 1, 1, 1], [1.0, 0, 1, 1]])
def test_the_mean_shows_what_is_not_finite_in_long_rows(odd: float, weights: list[float]) -> None:
    rows = normal(4)
    rows[1, 400_000] = odd
    aggregate = Mean().aggregate(rows, weights)
    assert aggregate.rejected == (1,)
    torch.testing.assert_close(aggregate.vector, rows[[0, 2, 3]].mean(0))
    rows[:] = odd
    with pytest.raises(AggregationError, match="hold NaN or infinity"):
        Mean()(rows)
