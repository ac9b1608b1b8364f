"""Norm bounding against a mean of shortened rows, and what one client can do."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import Mean, NormBound, Pipeline, StaticClip
from fedsec.errors import AggregationError, InputError


def bounded_mean(updates: Tensor, bound: float, weights: Tensor) -> Tensor:
    total = torch.zeros(updates.shape[1], dtype=torch.float64)
    for row, weight in zip(updates.double(), weights.double() / weights.double().sum(), strict=True):
        norm = float(row.square().sum()) ** 0.5
        total += weight * row * (min(1.0, bound / norm) if norm else 1.0)
    return total


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["normal", "near", "outliers", "far", "ties"]), st.integers(1, 9), st.booleans(), st.integers(0, 99)
)
def test_every_row_counts_for_no_more_than_the_bound(
    hard_rows: Callable[..., Tensor], kind: str, count: int, weighted: bool, seed: int
) -> None:
    updates = hard_rows(kind, count, 4, seed)
    given_weights = torch.rand(count, generator=torch.Generator().manual_seed(seed)) + 0.1
    weights = given_weights if weighted else torch.ones(count)
    for bound in (0.5, 1e4):
        vector = NormBound(bound, weighted=weighted)(updates, given_weights)
        expected = bounded_mean(updates, bound, weights)
        torch.testing.assert_close(vector.double(), expected, rtol=1e-5, atol=1e-6 + 1e-7 * bound)
    if not weighted:
        median = float(torch.linalg.vector_norm(updates.double(), dim=1).quantile(0.5))
        vector = NormBound("median")(updates)
        torch.testing.assert_close(vector.double(), bounded_mean(updates, median, weights), rtol=1e-5, atol=1e-4)
    clipped = Pipeline([StaticClip(0.5), Mean() if weighted else NormBound(1e9)])(updates, given_weights)
    torch.testing.assert_close(clipped, NormBound(0.5, weighted=weighted)(updates, given_weights), rtol=1e-5, atol=1e-6)


def test_the_median_is_by_weight_where_weights_count() -> None:
    updates = torch.tensor([[1.0], [10], [100]])
    assert NormBound("median")(updates).tolist() == pytest.approx([7])
    heavy = NormBound("median", weighted=True).aggregate(updates, [8.0, 1, 1])
    assert heavy.vector.tolist() == pytest.approx([1])
    assert heavy.influence.tolist() == pytest.approx([0.8 / 0.811, 0.01 / 0.811, 0.001 / 0.811])  # of what they sent


def test_a_site_moves_the_mean_by_no_more_than_its_share_of_the_bound() -> None:
    updates = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.006, 0.3, 0.294, 0.2, 0.2], dtype=torch.float64)
    rule = NormBound(0.04, weighted=True)
    attacked = updates.clone()
    attacked[0] = 5.5e30
    moved = torch.linalg.vector_norm(rule(attacked, weights) - rule(updates, weights))
    assert float(moved) <= 2 * 0.006 * 0.04 * (1 + 1e-5)


@pytest.mark.parametrize("size", [1e36, 1e38, 3e38])
def test_the_longest_rows_count_for_the_bound_too(size: float) -> None:
    updates = torch.zeros(3, 4)
    updates[0, 0] = size
    for bound in (1e-6, 3.1e-7):
        assert float(NormBound(bound)(updates)[0]) == pytest.approx(bound / 3, rel=1e-5)


def test_noise_is_the_generators_and_of_the_size_that_was_asked_for() -> None:
    updates, rule = torch.zeros(3, 20_000), NormBound(1.0, noise_std=0.3)
    first, again = (rule.aggregate(updates, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.vector, again.vector)
    assert float(first.vector.std()) == pytest.approx(0.3, rel=0.03)
    assert first.influence.tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(InputError, match="NormBound: draws random numbers"):
        rule(updates)


def test_rows_in_pieces_are_as_long_as_in_one() -> None:
    updates = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    for bound in ("median", 3.0):
        pieces = NormBound(bound).on_shards([updates[:, :7], updates[:, 7:]])  # type: ignore[arg-type]
        torch.testing.assert_close(torch.cat(pieces), NormBound(bound)(updates))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="looks at whole rows"):
        NormBound(1.0, noise_std=1.0).on_shards([updates], generator=torch.Generator())


def test_bounds_have_the_rows_unit_however_large() -> None:
    """Squares of such numbers are beyond float64."""
    updates = torch.tensor([[3e200, 4e200], [0, 0]], dtype=torch.float64)
    assert NormBound(1e200)(updates).div(1e200).tolist() == pytest.approx([0.3, 0.4])
    assert NormBound("median")(updates).div(1e200).tolist() == pytest.approx([0.75, 1])


def test_what_is_out_of_range_is_said() -> None:
    for bound in (0.0, -1.0, float("inf"), float("nan"), "mean"):
        with pytest.raises(InputError, match="bound must be median or a positive finite number"):
            NormBound(bound)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="noise_std must be finite and not negative"):
        NormBound(1.0, noise_std=-0.1)
    broken = torch.tensor([[1.0], [torch.nan], [torch.inf]])
    assert NormBound(1.0)(broken).tolist() == [1]
    with pytest.raises(AggregationError, match="at most 1 may be lost"):
        NormBound("median")(broken)
