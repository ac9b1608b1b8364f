"""The geometric median: its condition of optimality on the rows themselves, a slow search, and weights."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import NNM, GeometricMedian, Pipeline
from fedsec.errors import AggregationError, InputError

HardRows = Callable[[str, int, int, int], Tensor]
KINDS = ["normal", "near", "outliers", "far", "ties", "duplicates"]


def masses_of(count: int, seed: int) -> Tensor:
    weights = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    return weights / weights.sum()


def excess_force(updates: Tensor, point: Tensor, masses: Tensor) -> float:
    """How much more than the mass at the point the other rows pull at it; at most zero in a median."""
    away = updates - point
    distances = away.norm(dim=1)
    here = distances < 1e-7 * distances.median() + 1e-9 * updates.abs().max()
    pull = (masses[:, None] * away / distances.clamp_min(1e-300)[:, None])[~here].sum(0)
    return float(pull.norm() - masses[here].sum())


def weiszfeld(updates: Tensor, masses: Tensor, steps: int = 4000) -> Tensor:
    """The published iteration, on whole rows, with a small nu."""
    point = masses @ updates
    for _ in range(steps):
        pull = masses / (updates - point).norm(dim=1).clamp_min(1e-9)
        point = pull @ updates / pull.sum()
    return point


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 6), st.booleans(), st.integers(0, 999))
def test_nothing_pulls_at_the_result(
    hard_rows: HardRows, kind: str, count: int, columns: int, weighted: bool, seed: int
) -> None:
    updates = hard_rows(kind, count, columns, seed).double()
    weights = masses_of(count, seed)
    masses = weights if weighted else torch.full((count,), 1 / count, dtype=torch.float64)
    aggregate = GeometricMedian(weighted=weighted).aggregate(updates, weights)
    scale = (updates - updates[0]).norm(dim=1).median().clamp_min(1e-9)
    assert excess_force(updates, aggregate.vector, masses) <= 1e-6
    by_influence = aggregate.influence @ updates
    assert float((by_influence - aggregate.vector).norm()) <= 1e-6 * float(scale) + 1e-9 * float(updates.abs().max())


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_published_iteration(hard_rows: HardRows, seed: int) -> None:
    updates = hard_rows("normal", 7, 4, seed).double()
    masses = masses_of(7, seed)
    torch.testing.assert_close(
        GeometricMedian(weighted=True)(updates, masses), weiszfeld(updates, masses), rtol=1e-6, atol=1e-6
    )


def test_few_steps_do_even_where_weiszfelds_are_slow(hard_rows: HardRows) -> None:
    tight = 1e-4 * hard_rows("normal", 10, 3, 1).double()
    updates = torch.cat([tight, hard_rows("normal", 9, 3, 2).double() + 5])
    masses = torch.full((19,), 1 / 19, dtype=torch.float64)
    point = GeometricMedian(max_iterations=25)(updates)
    assert abs(excess_force(updates, point, masses)) <= 1e-6
    assert abs(excess_force(updates, weiszfeld(updates, masses, 25), masses)) > 1e-3


def test_golden_values() -> None:
    # BYZANTINE: a peer's three steps from zero give 1016.6 for points at 1000 to 1002 and an outlier of 1e6.
    assert GeometricMedian()(torch.tensor([[1000.0], [1001], [1002], [1e6]])).tolist() == [1001.5]
    assert GeometricMedian()(torch.tensor([[1000.0], [1001], [1002]])).tolist() == [1001]
    # The Fermat point of a right triangle with equal legs lies on its axis, (3 - sqrt 3) / 6 from each leg.
    triangle = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    assert GeometricMedian()(triangle).tolist() == pytest.approx([(3 - 3**0.5) / 6] * 2, rel=1e-8)
    # An angle of more than 120 degrees: its corner.
    assert GeometricMedian()(torch.tensor([[0.0, 0], [10, 1], [-10, 1]])).tolist() == [0, 0]
    square = torch.tensor([[0.0, 0], [2, 0], [0, 2], [2, 2]])
    assert GeometricMedian()(square).tolist() == pytest.approx([1, 1])


def test_equal_rows_one_client_and_two() -> None:
    assert torch.equal(GeometricMedian()(torch.full((4, 3), 0.1)), torch.full((3,), 0.1))
    assert GeometricMedian()(torch.tensor([[7.0, 8]])).tolist() == [7, 8]
    assert GeometricMedian()(torch.tensor([[1.0, 2], [3, 6]])).tolist() == [2, 4]
    assert GeometricMedian().aggregate(torch.tensor([[1.0], [5], [1]])).influence.tolist() == [0.5, 0, 0.5]


def test_is_equivariant_to_orthogonal_maps_shifts_and_units(hard_rows: HardRows) -> None:
    updates = hard_rows("normal", 6, 4, 3).double()
    turn = torch.linalg.qr(hard_rows("normal", 4, 4, 4).double())[0]
    point = GeometricMedian()(updates)
    torch.testing.assert_close(GeometricMedian()(updates @ turn * 1e-30), point @ turn * 1e-30, rtol=1e-7, atol=0)
    torch.testing.assert_close(GeometricMedian()(updates + 100), point + 100, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 8), st.sampled_from([1.0, 1e3, 1e12]), st.integers(0, 999))
def test_less_than_half_of_the_weight_cannot_move_it_far(
    hard_rows: HardRows, count: int, size: float, seed: int
) -> None:
    """However many clients it is: most of them, here, which the plain median would follow."""
    honest = hard_rows("normal", 2, 3, seed).double()
    byzantine = hard_rows("normal", 1, 3, seed + 1).double().expand(count, 3) * size
    for share in (0.006, 0.3, 0.45):
        weights = torch.cat([torch.full((2,), (1 - share) / 2), torch.full((count,), share / count)])
        point = GeometricMedian(weighted=True)(torch.cat([honest, byzantine]), weights)
        middle = honest.mean(0)
        bound = 2 * (1 - share) / (1 - 2 * share) * float((honest[0] - middle).norm())
        assert float((point - middle).norm()) <= bound * (1 + 1e-6)


def test_many_light_clients_far_away_do_not_drown_what_differs_among_the_others(hard_rows: HardRows) -> None:
    """Only their direction counts, however far away they are."""
    honest, away = hard_rows("normal", 3, 4, 1).double(), hard_rows("normal", 1, 4, 2).double().expand(6, 4)
    weights = torch.tensor([0.25, 0.2, 0.15] + [0.4 / 6] * 6)
    near, far = (GeometricMedian(weighted=True)(torch.cat([honest, size * away]), weights) for size in (1e7, 1e12))
    torch.testing.assert_close(far, near, rtol=1e-4, atol=1e-4)


def test_a_small_site_moves_it_by_no_more_than_its_share_allows(hard_rows: HardRows) -> None:
    """A site with 0.6% of the data, which moved a consortium's mean 5.5 times as far as the model itself."""
    updates = hard_rows("normal", 6, 20, 5).double()
    weights = torch.tensor([0.006, 0.3, 0.294, 0.2, 0.1, 0.1], dtype=torch.float64)
    rule = GeometricMedian(weighted=True)
    without = rule(updates[1:], weights[1:])
    radius = float((updates[1:] - without).norm(dim=1).max())
    for size in (1.0, 1e3, 1e9, -1e30):
        attacked = updates.clone()
        attacked[0] = size
        assert float((rule(attacked, weights) - without).norm()) <= 0.02 * radius


def test_equal_weights_are_none_and_halves_of_a_client_are_the_client(hard_rows: HardRows) -> None:
    for kind in KINDS:
        updates = hard_rows(kind, 7, 5, 8)
        equal = GeometricMedian(weighted=True)(updates, torch.full((7,), 3.0))
        assert torch.equal(equal, GeometricMedian()(updates))
        weights = masses_of(7, 8)
        whole = GeometricMedian(weighted=True)(updates, weights)
        halves = torch.cat([weights[:1] / 2, weights[1:], weights[:1] / 2])
        split = GeometricMedian(weighted=True)(torch.cat([updates, updates[:1]]), halves)
        torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)


def test_weights_of_zero_and_rejected_rows(hard_rows: HardRows) -> None:
    updates = hard_rows("normal", 5, 4, 2)
    weights = torch.tensor([0.0, 1, 2, 3, 4])
    rule = GeometricMedian(weighted=True)
    torch.testing.assert_close(rule(updates, weights), rule(updates[1:], weights[1:]))
    updates[[0, 1, 2]] = torch.nan
    assert rule.aggregate(updates, weights).rejected == (0, 1, 2)  # three of five, with three tenths of the weight
    with pytest.raises(AggregationError, match="at most 2 may be lost"):
        GeometricMedian()(updates)
    updates[3] = torch.inf
    with pytest.raises(AggregationError, match=r"rows with 60.0% of the weight hold NaN or infinity"):
        rule(updates, weights)


def test_after_a_mixture_of_equal_rows(hard_rows: HardRows) -> None:
    updates = hard_rows("outliers", 9, 6, 4)
    vector = Pipeline([NNM(4), GeometricMedian()])(updates)
    mixed = NNM(4)(updates).double()
    assert excess_force(mixed, vector.double(), torch.full((9,), 1 / 9, dtype=torch.float64)) < 1e-2


def test_what_is_out_of_range_is_said() -> None:
    with pytest.raises(InputError, match="tolerance must be between 0 and 1, but is 0"):
        GeometricMedian(tolerance=0)
    with pytest.raises(InputError, match="max_iterations must be at least 1, but is 0"):
        GeometricMedian(max_iterations=0)
