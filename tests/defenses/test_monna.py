"""MoNNA against distances from differences of rows."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import NNM, Bucketing, MoNNA, Pipeline
from fedsec.errors import AggregationError, InputError


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["normal", "outliers", "far", "ties"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_nearest_to_the_trusted_update_count(
    hard_rows: Callable[..., Tensor], kind: str, num_byzantine: int, more: int, server: bool, seed: int
) -> None:
    rows = hard_rows(kind, 2 * num_byzantine + 2 + more, 4, seed)
    rows = rows[rows.norm(dim=1).argsort(stable=True)]  # who lies far away sees no difference among the others
    updates, trusted = (rows[1:], 0) if server else (rows, seed % (len(rows) // 2 + 1))
    distances = (rows.double() - rows[trusted].double()).square().sum(1)[len(rows) - len(updates) :].tolist()
    first = -1 if server else trusted
    order = sorted(range(len(updates)), key=lambda row: (row != first, distances[row], row))
    chosen, dropped = order[: len(order) - num_byzantine], order[len(order) - num_byzantine :]
    rule = MoNNA(num_byzantine) if server else MoNNA(num_byzantine, trusted=trusted)
    aggregate = rule.aggregate(updates, server_update=rows[0] if server else None)
    torch.testing.assert_close(aggregate.vector, updates[chosen].double().mean(0).float(), rtol=1e-5, atol=1e-5)
    assert aggregate.suspected == tuple(sorted(dropped))


def test_the_trusted_client_is_known_by_number() -> None:
    updates = torch.tensor([[0.0], [10], [11], [torch.nan], [0.5]])
    assert MoNNA(2, trusted=30)(updates, clients=[20, 10, 30, 40, 50]).tolist() == pytest.approx([21.5 / 3])
    with pytest.raises(AggregationError, match=r"clients \[0, 1, 2, 4\], but none of client 3, which it trusts"):
        MoNNA(2, trusted=3)(updates)
    rows = updates.nan_to_num()
    assert torch.cat(MoNNA(2, trusted=0).on_shards([rows, rows])).tolist() == MoNNA(2, trusted=0)(rows).tolist() * 2
    mixed = Pipeline([NNM(1), MoNNA(1, trusted=1)])(updates[[0, 1, 2]])
    assert mixed.tolist() == [10.5]
    with pytest.raises(InputError, match="no row is that of client 1 any more, where 5 updates were mixed into 3"):
        Pipeline([Bucketing(2), MoNNA(1, trusted=1)])(updates.nan_to_num(), generator=torch.Generator())
    with pytest.raises(InputError, match="no row is that of client 1 any more, where 5 updates were mixed into 5"):
        Pipeline([Bucketing(1), MoNNA(1, trusted=1)])(updates.nan_to_num(), generator=torch.Generator())


def test_among_equal_rows_the_trusted_one_counts() -> None:
    assert MoNNA(1, trusted=2).aggregate(torch.full((3, 2), 5.0)).suspected == (1,)


def test_what_it_needs_is_said() -> None:
    with pytest.raises(InputError, match="MoNNA: num_byzantine must not be negative, but is -1"):
        MoNNA(-1)
    with pytest.raises(InputError, match="number of a client, from 0, and cannot be -2"):
        MoNNA(1, trusted=-2)
    with pytest.raises(InputError, match="MoNNA: num_byzantine 2 needs at least 5 rows, not 4"):
        MoNNA(2, trusted=0)(torch.ones(4, 2))
    with pytest.raises(InputError, match="expected server_update"):
        MoNNA(1)(torch.ones(4, 2))
    assert MoNNA(0)(torch.tensor([[3.0]]), server_update=torch.zeros(1)).tolist() == [3]
