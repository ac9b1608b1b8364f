"""Krum, and whom Krum and Multi-Krum suspect, against scores from differences of rows."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import Krum, MultiKrum, Pipeline, StaticClip
from fedsec.errors import AggregationError, InputError

HardRows = Callable[[str, int, int, int], Tensor]


def order_by_hand(updates: Tensor, num_byzantine: int) -> list[int]:
    """Rows by the sum of squared distances to the n - f - 2 nearest others, of equal ones the first."""
    wide = updates.double()
    scores = []
    for row in range(len(wide)):
        distances = sorted(
            float((wide[row] - wide[other]).square().sum()) for other in range(len(wide)) if other != row
        )
        scores.append((sum(distances[: len(wide) - num_byzantine - 2]), row))
    return [row for _, row in sorted(scores)]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["normal", "outliers", "far", "ties"]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 99))
def test_krum_is_the_row_of_smallest_score(
    hard_rows: HardRows, kind: str, num_byzantine: int, more: int, seed: int
) -> None:
    more = 0 if kind == "outliers" else more  # more than f outliers would drown the scores in their distances
    updates = hard_rows(kind, 2 * num_byzantine + 3 + more, 5, seed)
    order = order_by_hand(updates, num_byzantine)
    aggregate = Krum(num_byzantine).aggregate(updates)
    assert torch.equal(aggregate.vector, updates[order[0]])
    assert aggregate.influence.nonzero().flatten().tolist() == [order[0]]
    suspected = tuple(sorted(order[len(order) - num_byzantine :]))
    assert aggregate.suspected == suspected
    assert MultiKrum(num_byzantine, num_selected=1).aggregate(updates).suspected == suspected


def test_golden_value() -> None:
    # n - f - 2 = 3 neighbors: 1 + 1 + .25 of the first, .25 + 1 + 4, 1 + 2.25 + 4, .25 + .25 + 2.25, then far more.
    updates = torch.tensor([[3.0], [4], [2], [3.5], [9], [-7]])
    assert Krum(1)(updates).tolist() == [3]
    assert Krum(1).aggregate(updates).suspected == (5,)


def test_rejected_rows_count_as_byzantine_and_are_suspected() -> None:
    updates = torch.tensor([[0.0], [torch.nan], [1], [1.5], [50], [2], [0.5]])
    aggregate = Krum(2).aggregate(updates)
    assert aggregate.rejected == (1,)
    assert aggregate.suspected == (1, 4)
    assert torch.equal(aggregate.vector, Krum(1)(updates[[0, 2, 3, 4, 5, 6]]))
    # With three neighbors of the six that are left, 0.2 is nearest to the other group; with two, 0.1 is in the middle.
    assert Krum(2)(torch.tensor([[0.0], [torch.nan], [0.1], [0.2], [5], [5.5], [6]])).tolist() == pytest.approx([0.2])
    with pytest.raises(AggregationError, match=r"rows \[1, 4\] of 5 hold NaN"):
        Krum(1)(torch.tensor([[0.0], [torch.nan], [1], [1.5], [torch.inf]]))


def test_after_clipping_the_same_clients_are_suspected_as_their_rows() -> None:
    updates = torch.tensor([[3.0], [4], [2], [3.5], [9], [-7]])
    assert Pipeline([StaticClip(100.0), Krum(1)]).aggregate(updates).suspected == (5,)


def test_what_it_needs_is_said() -> None:
    with pytest.raises(InputError, match="Krum: num_byzantine must not be negative, but is -1"):
        Krum(-1)
    with pytest.raises(InputError, match="Krum: num_byzantine 2 needs at least 7 rows, not 6"):
        Krum(2)(torch.ones(6, 2))
    assert Krum(0)(torch.tensor([[2.0], [2], [2]])).tolist() == [2]
