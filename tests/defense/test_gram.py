"""Inner products of rows, and rules and mixtures made of them, against direct computation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule, PreAggregator
from fedsec.defense.gram_matrix import central_row
from fedsec.defenses import NNM, Bucketing, MultiKrum
from fedsec.errors import InputError


def normal(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def direct_distances(updates: Tensor) -> Tensor:
    """Squared, from differences in float64."""
    wide = updates.double()
    return torch.stack([torch.stack([(one - other).square().sum() for other in wide]) for one in wide])


def geometry(kind: str, rows: int, columns: int, seed: int) -> Tensor:
    updates = normal(rows, columns, seed)
    if kind == "nearly equal":
        return (1000 + 1e-2 * updates).float()
    if kind == "outlier":
        updates[0] = 1e18
    if kind == "far and nearly equal, with an outlier":
        updates = (1000 + 1e-2 * updates).float()
        updates[seed % rows] = -1e12
    return updates


GEOMETRIES = ["normal", "nearly equal", "outlier", "far and nearly equal, with an outlier"]


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(GEOMETRIES), st.integers(2, 7), st.integers(1, 300), st.integers(0, 9))
def test_distances_do_not_cancel(kind: str, rows: int, columns: int, seed: int) -> None:
    """In float32 inner products of rows near 1000 that differ by 0.01 say nothing of their distances."""
    updates = geometry(kind, rows, columns, seed)
    gram, expected = Gram.of(updates), direct_distances(updates)
    torch.testing.assert_close(gram.squared_distances(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gram.squared_norms(), updates.double().square().sum(1), rtol=1e-6, atol=0)
    assert (gram.unit, len(gram)) == (1, rows)


def test_numbers_whose_squares_float64_cannot_hold() -> None:
    for size in (1e300, 1e-250):
        updates = normal(5, 20, dtype=torch.float64) * size
        gram = Gram.of(updates)
        distances = gram.squared_distances().sqrt() * gram.unit / size
        torch.testing.assert_close(distances, direct_distances(updates / size).sqrt())
    assert Gram.of(torch.zeros(3, 2)).squared_distances().tolist() == [[0] * 3] * 3


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(GEOMETRIES), st.integers(0, 9), st.booleans())
def test_a_mixture_needs_no_mixed_rows(kind: str, seed: int, shortened: bool) -> None:
    """W G W^T is the Gram matrix of W X, also where rows are shortened towards the origin."""
    updates = geometry(kind, 5, 40, seed)
    mixing = torch.rand(3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mixing /= mixing.sum(1, keepdim=True) * (2 if shortened else 1)
    mixing[1] = mixing[0] if seed % 2 else mixing[1]
    gram, mixed = Gram.of(updates).mixed(mixing), mixing @ updates.double()
    scale = float(direct_distances(updates).max())
    if shortened:  # between rows and the origin lies their whole length
        scale = max(scale, 0.1 * float(updates.double().square().sum(1).max()))
    torch.testing.assert_close(gram.squared_distances(), direct_distances(mixed), rtol=1e-5, atol=1e-12 * scale)
    torch.testing.assert_close(gram.squared_norms(), mixed.square().sum(1), rtol=1e-5, atol=1e-12 * scale)
    once_more = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    norms = gram.mixed(once_more).squared_norms()
    torch.testing.assert_close(norms, mixed.mean(0).square().sum()[None], rtol=1e-5, atol=1e-12 * scale)


def krum_order(updates: Tensor, num_byzantine: int) -> list[int]:
    """Blanchard et al., from the text: squared distances to the n - f - 2 closest of each, smallest sum first."""
    distances, count = direct_distances(updates).tolist(), len(updates)
    scores = []
    for row in range(count):
        others = sorted(distances[row][other] for other in range(count) if other != row)
        scores.append(sum(others[: count - num_byzantine - 2]))
    return sorted(range(count), key=lambda row: (scores[row], row))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(GEOMETRIES), st.integers(0, 3), st.integers(0, 4), st.integers(0, 20), st.integers(1, 60))
def test_multi_krum_against_the_paper(kind: str, byzantine: int, more: int, seed: int, columns: int) -> None:
    count = 2 * byzantine + 3 + more
    updates = geometry(kind, count, columns, seed)
    order = krum_order(updates, byzantine)
    assert torch.equal(MultiKrum(byzantine, num_selected=1)(updates), updates[order[0]])
    aggregate = MultiKrum(byzantine).aggregate(updates)
    chosen = order[: count - byzantine]
    torch.testing.assert_close(aggregate.vector, updates[chosen].double().mean(0).float(), rtol=1e-5, atol=1e-5)
    assert aggregate.influence.nonzero().flatten().tolist() == sorted(chosen)


def test_krum_leaves_out_what_lies_far_away_however_far() -> None:
    updates = normal(9, 50)
    updates[[2, 5, 7]] = torch.tensor([[1e30], [-3e38], [50.0]]).expand(3, 50)
    assert MultiKrum(3).aggregate(updates).influence[[2, 5, 7]].tolist() == [0, 0, 0]
    updates[5] = torch.nan
    aggregate = MultiKrum(3).aggregate(updates)
    assert aggregate.rejected == (5,)
    assert aggregate.influence[[2, 5, 7]].tolist() == [0, 0, 0]
    assert torch.equal(aggregate.vector, MultiKrum(2)(updates[[0, 1, 2, 3, 4, 6, 7, 8]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_byzantine": -1}, "must not be negative"),
        ({"num_byzantine": 1, "num_selected": 0}, "at least 1"),
        ({"num_byzantine": 2}, "num_byzantine 2 needs at least 7 rows, not 6"),
        ({"num_byzantine": 1, "num_selected": 6}, "expected at most 5"),
    ],
)
def test_krum_says_what_it_needs(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiKrum(**options)(normal(6, 3))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(GEOMETRIES), st.integers(0, 3), st.integers(0, 3), st.integers(0, 20))
def test_nearest_neighbors_against_direct_distances(kind: str, byzantine: int, more: int, seed: int) -> None:
    count = 2 * byzantine + 1 + more
    updates = geometry(kind, count, 30, seed)
    distances = direct_distances(updates)
    for row, mixed in enumerate(NNM(byzantine)(updates)):
        nearest = sorted(range(count), key=lambda other, row=row: (float(distances[row, other]), other))
        expected = updates[nearest[: count - byzantine]].double().mean(0)
        torch.testing.assert_close(mixed, expected.float(), rtol=1e-5, atol=1e-5)


def test_a_row_is_its_own_neighbor_among_equal_rows() -> None:
    updates = torch.ones(5, 3)
    updates[4] = 9
    mixing = NNM(2).mixing(Gram.of(updates), Cohort(updates, (0.2,) * 5, 0))
    assert (mixing.diagonal() > 0).all()
    with pytest.raises(InputError, match="num_byzantine 2 needs at least 5 rows, not 4"):
        NNM(2).num_mixed(4)
    with pytest.raises(InputError, match="not be negative"):
        NNM(-1)


def test_buckets_are_shuffled_anew_and_hold_every_row_once() -> None:
    updates, generator = torch.eye(7), torch.Generator().manual_seed(3)
    first, second = (Bucketing(3)(updates, generator=generator) for _ in range(2))
    for buckets in (first, second):
        members = [row.nonzero().flatten().tolist() for row in buckets]
        assert sorted(row for one in members for row in one) == list(range(7))
        assert [len(one) for one in members] == [3, 3, 1]
        torch.testing.assert_close(buckets.sum(1), torch.ones(3))
    assert not torch.equal(first, second)
    with pytest.raises(InputError, match="at least 1"):
        Bucketing(0)


def test_mixed_rows_are_of_the_kind_that_was_given() -> None:
    updates = normal(5, 4)
    mixed = NNM(1)(updates)
    assert NNM(1)(updates.numpy()).tolist() == mixed.tolist()
    assert [row.tolist() for row in NNM(1)(list(updates))] == mixed.tolist()


class Weighing(GramRule):
    def __init__(self, weights: Tensor) -> None:
        self.chosen = weights

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        return self.chosen


class Mixing(PreAggregator):
    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def num_mixed(self, num_clients: int) -> int:
        return len(self.matrix)

    def mixing(self, gram: Gram, cohort: Cohort) -> Tensor:
        return self.matrix


def test_weights_and_mixtures_that_break_the_contract() -> None:
    updates = normal(3, 4)
    for weights in ([1.0, 1], [1, -1, 1], [1, torch.nan, 1]):
        with pytest.raises(InputError, match=r"Weighing\.weights: expected 3 finite numbers, none negative"):
            Weighing(torch.tensor(weights))(updates)
    with pytest.raises(InputError, match=r"Weighing\.weights: expected a positive weight"):
        Weighing(torch.zeros(3))(updates)
    torch.testing.assert_close(Weighing(torch.tensor([2.0, 0, 2]))(updates), updates[[0, 2]].mean(0))
    for matrix in ([[1.0, 0]], [[0.5, 0.5, 0.1]], [[1, -1, 1]], [[torch.nan, 0, 0]], [1.0, 0, 0]):
        with pytest.raises(InputError, match=r"Mixing\.mixing: expected \[mixed, 3\] parts"):
            Mixing(torch.tensor(matrix))(updates)
    with pytest.raises(TypeError, match="may not define combine"):
        type("Cheat", (Weighing,), {"combine": lambda self, cohort: cohort.updates[0]})


def test_norms_do_not_drown_in_a_far_center() -> None:
    updates = torch.tensor([[3.0, 4], [0, 2], *[[1e12, 0]] * 4], dtype=torch.float64)
    assert Gram.of(updates).squared_norms()[:2].tolist() == [25, 4]


def test_inner_products_about_a_row_and_the_row_that_half_of_the_weight_is_near() -> None:
    updates = torch.cat([normal(4, 9), torch.full((3, 9), 1e9)]).double()
    equal = torch.full((7,), 1 / 7, dtype=torch.float64)
    heavy = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2], dtype=torch.float64)
    gram = Gram.of(updates)
    center = central_row(gram.squared_distances(), equal)
    assert center < 4 <= central_row(gram.squared_distances(), heavy)
    moved = updates - updates[center]
    torch.testing.assert_close(gram.about(center), moved @ moved.T, rtol=1e-9, atol=1e-6)
    assert not gram.about(center)[center].any()
    assert not gram.about(center)[:, center].any()
