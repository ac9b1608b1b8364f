"""Rows that pass by, against the matrix of all of them."""

import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregate, Aggregator, Pipeline, RowStream
from fedsec.defenses import NNM, DpFedAvg, Mean, Median
from fedsec.errors import AggregationError, InputError

WEIGHTS = [3.0, 1, 2, 5, 1, 4, 2, 2, 7, 1, 1]


def updates(dtype: torch.dtype = torch.float32, columns: int = 301) -> Tensor:
    return torch.randn(len(WEIGHTS), columns, generator=torch.Generator().manual_seed(4)).to(dtype)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def passed(
    rule: Aggregator, rows: Tensor, sizes: tuple[int, ...] = (4, 1, 6), order: list[int] | None = None
) -> Aggregate:
    stream = RowStream(rule, len(rows), rows[0], WEIGHTS)
    for places in torch.tensor(order or list(range(len(rows)))).split(list(sizes)):
        stream.add(rows[places], places.tolist())
    return stream.aggregate(generator=seeded())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("columns", [1, 301, (1 << 18) + 37])
def test_the_mean_of_rows_that_pass_by_is_that_of_the_matrix_to_the_bit(dtype: torch.dtype, columns: int) -> None:
    rows = updates(dtype, columns)
    whole, streamed = Mean().aggregate(rows, WEIGHTS), passed(Mean(), rows)
    assert torch.equal(streamed.vector, whole.vector)
    assert streamed.vector.dtype == dtype
    assert torch.equal(streamed.influence, whole.influence)
    assert whole.weights is not None
    assert streamed.weights is not None
    torch.testing.assert_close(streamed.weights, whole.weights, rtol=1e-15, atol=0)


def test_a_rule_that_claims_to_stream_and_has_no_total_is_told() -> None:
    class Claims(Median):
        streams = True

    with pytest.raises(InputError, match="Claims: says that it streams; expected a row_total"):
        RowStream(Claims(), len(WEIGHTS), updates()[0], WEIGHTS)


def test_weights_that_float32_cannot_hold_are_added_up_alike() -> None:
    rows, weights = updates() * 1e30, [1.0, 1e-60, *WEIGHTS[2:]]
    stream = RowStream(Mean(), len(rows), rows[0], weights)
    stream.add(rows, range(len(rows)))
    assert torch.equal(stream.aggregate().vector, Mean()(rows, weights))


@pytest.mark.parametrize("rule", [Mean(), DpFedAvg(0.7, clip_norm=9.0), DpFedAvg(0.7, clip_norm=9.0, quantile=0.5)])
def test_rows_that_are_not_finite_are_rejected_as_they_come(rule: Aggregator) -> None:
    rows = updates()
    rows[2, 5], rows[9, 0] = torch.nan, torch.inf
    before = rule.state()
    whole = rule.aggregate(rows, WEIGHTS if rule.uses_weights else None, generator=seeded())
    after = rule.state()
    rule.restore(before)
    streamed = passed(rule, rows, order=[8, 2, 0, 1, 3, 4, 5, 6, 7, 10, 9])
    assert streamed.rejected == whole.rejected == (2, 9)
    torch.testing.assert_close(streamed.vector, whole.vector, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(streamed.influence, whole.influence, rtol=1e-12, atol=1e-15)
    assert rule.state() == after or all(torch.equal(rule.state()[name], held) for name, held in after.items())


def test_a_huge_row_does_not_overflow_where_another_is_rejected() -> None:
    rows = torch.full((len(WEIGHTS), 3), 3e38)
    rows[0, 0] = torch.nan
    assert torch.equal(passed(Mean(), rows).vector, torch.full((3,), 3e38))


def test_rows_that_need_each_other_do_not_stream() -> None:
    for rule in (Median(), Pipeline([NNM(num_byzantine=2), Mean()])):
        with pytest.raises(InputError, match="looks at all rows at once; expected one matrix"):
            RowStream(rule, 3, torch.zeros(2))


def test_every_row_passes_once() -> None:
    rows = updates()
    stream = RowStream(Mean(), len(rows), rows[0])
    stream.add(rows[:4], range(4))
    with pytest.raises(InputError, match="expected each of 11 rows once, got 4"):
        stream.aggregate()
    stream.add(rows[:7], range(7))
    with pytest.raises(InputError, match="expected each of 11 rows once, got 11"):
        stream.aggregate()


def test_a_rule_that_draws_needs_a_generator() -> None:
    stream = RowStream(DpFedAvg(1.0), 3, torch.zeros(2))
    stream.add(torch.zeros(3, 2), range(3))
    with pytest.raises(InputError, match="expected a generator"):
        stream.aggregate()


def test_rows_of_which_none_is_finite_are_too_few() -> None:
    rows = torch.full((len(WEIGHTS), 3), torch.nan)
    with pytest.raises(AggregationError, match="hold NaN or infinity"):
        passed(Mean(), rows)


def test_finite_rows_without_weight_are_no_mean() -> None:
    rows = updates()
    rows[0, 0] = torch.nan
    stream = RowStream(Mean(), len(rows), rows[0], [1.0] + [0.0] * (len(rows) - 1))
    stream.add(rows, range(len(rows)))
    with pytest.raises(AggregationError, match="have no weight"):
        stream.aggregate()
