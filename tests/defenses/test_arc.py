"""ARC against a sort of the norms in plain Python."""

from collections.abc import Callable
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import ARC, Mean, Pipeline
from fedsec.errors import InputError


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["normal", "near", "outliers", "far", "ties", "duplicates"]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 99),
)
def test_the_longest_rows_get_the_length_of_the_next(
    hard_rows: Callable[..., Tensor], kind: str, num_byzantine: int, more: int, seed: int
) -> None:
    count = 2 * num_byzantine + 1 + more
    updates = hard_rows(kind, count, 4, seed)
    before = updates.clone()
    norms = [float(row.square().sum()) ** 0.5 for row in updates.double()]
    bound = sorted(norms, reverse=True)[floor(2 * (num_byzantine / count) * (count - num_byzantine) + 1e-9)]
    expected = [
        row * (min(1.0, bound / norm) if norm else 1.0) for row, norm in zip(updates.double(), norms, strict=True)
    ]
    shortened = ARC(num_byzantine)(updates)
    torch.testing.assert_close(shortened, torch.stack(expected).float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(updates, before), "a peer writes into the caller's rows"


def test_golden_value() -> None:
    # n = 5, f = 1: floor(2 / 5 * 4) = 1, so the longest row gets the second norm, 5.
    updates = torch.tensor([[30.0, 40], [3, 4], [0, 2], [1, 0], [0, 0]])
    assert ARC(1)(updates).tolist() == [[3, 4], [3, 4], [0, 2], [1, 0], [0, 0]]
    # n = 5, f = 2: floor(4 / 5 * 3) = 2.
    torch.testing.assert_close(ARC(2)(updates)[:2], torch.tensor([[1.2, 1.6], [1.2, 1.6]]))


def test_a_rejected_row_is_one_byzantine_row_less() -> None:
    updates = torch.tensor([[30.0, 40], [3, 4], [0, 2], [1, 0], [torch.nan, 0]])
    aggregate = Pipeline([ARC(2), Mean()]).aggregate(updates)
    torch.testing.assert_close(aggregate.vector, torch.tensor([1.75, 2.5]))  # n = 4, f = 1: one row gets 5
    assert aggregate.rejected == (4,)


def test_rows_of_which_nothing_is_left_still_count() -> None:
    updates = torch.tensor([[8.0], [0], [0]])
    assert Pipeline([ARC(1), Mean()])(updates).tolist() == [0]


def test_what_it_needs_is_said() -> None:
    with pytest.raises(InputError, match="ARC: num_byzantine must not be negative, but is -1"):
        ARC(-1)
    with pytest.raises(InputError, match="ARC: num_byzantine 2 needs at least 5 rows, not 4"):
        ARC(2)(torch.ones(4, 2))
