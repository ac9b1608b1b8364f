"""CGE against norms and a sort in plain Python."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import CGE
from fedsec.errors import InputError


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["normal", "near", "outliers", "far", "ties", "duplicates"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 99),
)
def test_the_shortest_rows_count(
    hard_rows: Callable[..., Tensor], kind: str, num_byzantine: int, more: int, seed: int
) -> None:
    updates = hard_rows(kind, 2 * num_byzantine + 1 + more, 4, seed)
    norms = [sum(value**2 for value in row) for row in updates.double().tolist()]
    order = sorted(range(len(norms)), key=lambda row: (norms[row], row))
    chosen, dropped = order[: len(order) - num_byzantine], order[len(order) - num_byzantine :]
    aggregate = CGE(num_byzantine).aggregate(updates)
    torch.testing.assert_close(aggregate.vector, updates[chosen].double().mean(0).float(), rtol=1e-5, atol=1e-5)
    assert aggregate.suspected == tuple(sorted(dropped))


def test_golden_value_and_rejected_rows() -> None:
    updates = torch.tensor([[1.0, 0], [0, 2], [3, 4], [torch.nan, 0], [-1, 0]])
    assert CGE(2)(updates).tolist() == pytest.approx([0, 2 / 3])
    assert CGE(2).aggregate(updates).suspected == (2, 3)
    assert CGE(0)(torch.tensor([[7.0]])).tolist() == [7]


def test_what_it_needs_is_said() -> None:
    with pytest.raises(InputError, match="CGE: num_byzantine must not be negative, but is -1"):
        CGE(-1)
    with pytest.raises(InputError, match="CGE: num_byzantine 2 needs at least 5 rows, not 4"):
        CGE(2)(torch.ones(4, 2))
