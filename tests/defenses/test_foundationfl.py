"""FoundationFL: whom it copies, how often, and what the rule behind it then sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Pipeline
from fedsec.defenses import FoundationFL, Median, TrimmedMean
from fedsec.errors import AggregationError, InputError


def furthest_from_extremes(updates: Tensor) -> int:
    highest, lowest = updates.amax(0), updates.amin(0)
    scores = [min(float((row - highest).norm()), float((row - lowest).norm())) for row in updates]
    return scores.index(max(scores))


@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_rule_sees_copies_of_the_client_furthest_from_the_extremes(count: int, copies: int, seed: int) -> None:
    updates = torch.randn(count, 13, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    chosen = updates[furthest_from_extremes(updates)].expand(copies, -1)
    mixed = FoundationFL(copies)(updates)
    torch.testing.assert_close(mixed, torch.cat([updates, chosen]))
    vector = Pipeline([FoundationFL(copies), Median()])(updates)
    torch.testing.assert_close(vector, torch.cat([updates, chosen]).quantile(0.5, dim=0))


def test_a_case_by_hand() -> None:
    updates = torch.tensor([[0.0], [1.0], [4.0], [5.0], [10.0]])  # scores 0, 1, 4, 5, 0
    assert FoundationFL()(updates).flatten().tolist() == [0, 1, 4, 5, 10, 5, 5]
    assert Pipeline([FoundationFL(), TrimmedMean(num_trimmed_per_side=2)])(updates).item() == pytest.approx(14 / 3)
    aggregate = Pipeline([FoundationFL(), Median()]).aggregate(updates)
    assert aggregate.influence.tolist() == [0, 0, 0, 1, 0]


def test_half_as_many_copies_by_default_and_of_equal_scores_the_first() -> None:
    assert [FoundationFL().num_mixed(count) for count in (1, 2, 5, 10)] == [1, 3, 7, 15]
    rows = FoundationFL(2)(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert rows.tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    assert torch.equal(FoundationFL()(torch.ones(4, 3)), torch.ones(6, 3))


def test_rows_behind_another_pre_aggregator_are_those_that_are_scored() -> None:
    from fedsec.defenses import NNM

    updates = torch.randn(8, 40, generator=torch.Generator().manual_seed(1))
    both = Pipeline([NNM(2), FoundationFL(3), Median()])(updates)
    torch.testing.assert_close(both, Median()(FoundationFL(3)(NNM(2)(updates))), rtol=1e-4, atol=1e-5)


def test_copies_help_against_nobody() -> None:
    pipeline = Pipeline([FoundationFL(num_synthetic=6), Median()])
    assert pipeline.max_rejected(7) == Median().max_rejected(7) == 3
    updates = torch.randn(7, 5)
    updates[:4] = torch.nan
    with pytest.raises(AggregationError, match="at most 3 may be lost"):
        pipeline(updates)
    updates = torch.randn(7, 5)
    updates[2] = torch.inf
    assert pipeline.aggregate(updates).rejected == (2,)


@pytest.mark.parametrize("size", [1e308, 1e-250])
def test_huge_and_tiny_numbers_are_compared(size: float) -> None:
    updates = torch.tensor([[0.0], [0.1], [0.4], [0.5], [1.0]], dtype=torch.float64) * size
    assert torch.equal(FoundationFL(1)(updates)[-1], updates[3])


def test_a_negative_number_of_copies_is_refused() -> None:
    with pytest.raises(InputError, match="num_synthetic must not be negative"):
        FoundationFL(-1)
