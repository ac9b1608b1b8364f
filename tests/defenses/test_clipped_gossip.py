"""ClippedGossip against its formula written out row by row."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import ClippedGossip, Mean
from fedsec.errors import InputError


def clipped(rows: Tensor, weights: Tensor, longest: int, radius: float | None) -> Tensor:
    rows, w = rows.double(), weights.double() / weights.double().sum()
    norms = [float(row.square().sum()) ** 0.5 for row in rows]
    order = sorted(range(len(rows)), key=lambda place: norms[place])
    near, far = order[: len(rows) - longest], order[len(rows) - longest :]
    if radius is None:
        if not far:
            return w @ rows
        delta = sum(float(w[place]) for place in far)
        radius = (sum(float(w[place]) * norms[place] ** 2 for place in near) / delta) ** 0.5
    total = torch.zeros_like(rows[0])
    for place, row in enumerate(rows):
        total += w[place] * row * min(1.0, radius / norms[place] if norms[place] else 1.0)
    return total


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["normal", "near", "outliers", "far"]),
    st.integers(3, 8),
    st.sampled_from([None, 0.5]),
    st.integers(0, 99),
)
def test_it_is_the_mean_of_shortened_rows(
    hard_rows: Callable[..., Tensor], kind: str, count: int, radius: float | None, seed: int
) -> None:
    rows = hard_rows(kind, count, 4, seed)
    weights = torch.rand(count, generator=torch.Generator().manual_seed(seed)) + 0.1
    for longest in (0, 1):
        expected = clipped(rows, weights, longest, radius)
        size = float(rows.abs().max())
        vector = ClippedGossip(longest, radius)(rows, weights)
        torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5 * size)
    if radius is None:
        torch.testing.assert_close(ClippedGossip(0)(rows, weights), Mean()(rows, weights), rtol=1e-5, atol=1e-6 * size)


def test_the_radius_follows_the_honest_rows() -> None:
    # Oneself, two neighbors 3 and 4 away, and an attacker: tau^2 = (9 + 16) / 4 * 4 = 25 with equal weights.
    rows = torch.tensor([[0.0, 0], [3, 0], [0, 4], [1000, 0]])
    assert ClippedGossip(1)(rows).tolist() == pytest.approx([(3 + 5) / 4, 1])


def test_where_attackers_are_the_farthest_it_is_the_papers_oracle() -> None:
    """tau^2 = sum over honest neighbors W_j d_j^2 / delta, with delta what Byzantine neighbors weigh."""
    rows, weights = torch.tensor([[0.0, 0], [3, 0], [0, 4], [1000, 0], [0, -900]]), [0.3, 0.2, 0.1, 0.25, 0.15]
    radius = ((0.2 * 9 + 0.1 * 16) / (0.25 + 0.15)) ** 0.5  # 2.92: honest rows are clipped, too
    expected = [0.2 * radius + 0.25 * radius, 0.1 * radius - 0.15 * radius]
    assert ClippedGossip(2)(rows, torch.tensor(weights)).tolist() == pytest.approx(expected, rel=1e-5)


def test_with_equal_weights_it_is_the_papers_practical_rule() -> None:
    """S are the nearest rows whose weights fit into 1 - delta_max, and tau^2 = sum over S of W_j d_j^2 / delta_max."""
    rows, delta_max = torch.tensor([[0.0], [1.0], [-2.0], [4.0], [8.0]]), 2 / 5
    near, weight = [0, 1, 2], 1 / 5
    assert len(near) * weight <= 1 - delta_max + 1e-12 < (len(near) + 1) * weight
    radius = (sum(weight * float(rows[place]) ** 2 for place in near) / delta_max) ** 0.5
    expected = sum(weight * max(-radius, min(radius, float(row))) for row in rows)
    assert ClippedGossip(2)(rows).tolist() == pytest.approx([expected], rel=1e-5)


def test_where_all_others_agree_with_oneself_nobody_else_is_believed() -> None:
    assert ClippedGossip(1)(torch.tensor([[0.0], [0], [7]])).tolist() == pytest.approx([0])


def test_a_row_that_is_not_finite_is_one_of_the_byzantine() -> None:
    rows = torch.tensor([[0.0], [1], [torch.nan], [3]])
    assert ClippedGossip(1)(rows).tolist() == pytest.approx([4 / 3])


@pytest.mark.parametrize("options", [{"radius": 0.0}, {"num_byzantine": -1}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        ClippedGossip(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs at least 3 rows"):
        ClippedGossip(1)(torch.zeros(2, 3))
