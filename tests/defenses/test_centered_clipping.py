"""Centered clipping against its formula on whole rows, round after round, and what clients can do to its center."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import NNM, CenteredClipping, Pipeline
from fedsec.errors import AggregationError, InputError

HardRows = Callable[[str, int, int, int], Tensor]


def moved_by_hand(center: Tensor, updates: Tensor, radius: float, masses: Tensor) -> Tensor:
    """v + sum_i w_i (x_i - v) min(1, tau / ||x_i - v||), one row after the other."""
    moved = center.clone()
    for row, mass in zip(updates, masses, strict=True):
        away = row - center
        norm = float(away.norm())
        moved += mass * away * (min(1.0, radius / norm) if norm else 1.0)
    return moved


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["normal", "outliers", "far", "near", "ties", "duplicates"]),
    st.integers(1, 8),
    st.sampled_from([0.01, 1.0, 1e4]),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 999),
)
def test_three_rounds_by_hand(
    hard_rows: HardRows, kind: str, count: int, radius: float, num_iterations: int, weighted: bool, seed: int
) -> None:
    rule = CenteredClipping(radius, num_iterations, weighted=weighted)
    center = torch.zeros(4, dtype=torch.float64)
    for round_number in range(3):
        updates = hard_rows(kind, count, 4, seed + round_number).double()
        # So nearly equal that rows far away, of which there are fewer than half, have less than half of the weight.
        weights = 1 + 0.3 * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        masses = weights / weights.sum() if weighted else torch.full_like(weights, 1 / count)
        for _ in range(num_iterations):
            center = moved_by_hand(center, updates, radius, masses)
        vector = rule(updates, weights)
        torch.testing.assert_close(vector, center, rtol=1e-5, atol=1e-5 * min(1.0, radius))
        center = vector


def test_golden_value() -> None:
    rule = CenteredClipping(1.0)
    updates = torch.tensor([[3.0, 4], [0.3, 0.4], [0, -1e6]])
    assert rule(updates).tolist() == pytest.approx([0.3, (0.8 + 0.4 - 1) / 3])
    assert CenteredClipping(1e9)(updates).tolist() == pytest.approx(updates.mean(0).tolist())


def test_no_site_moves_the_center_by_more_than_its_weight_times_the_radius() -> None:
    updates = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.006, 0.3, 0.294, 0.2, 0.2], dtype=torch.float64)
    rule = CenteredClipping(0.04, weighted=True)
    rule(updates, weights)
    for size in (1.0, 5.5e30):
        attacked, calm = updates.clone(), updates.clone()
        attacked[0], calm[0] = size, -size
        first, second = (copy.deepcopy(rule)(rows, weights) for rows in (attacked, calm))
        assert float((first - second).norm()) <= 2 * 0.006 * 0.04 * (1 + 1e-4)


def test_equal_weights_are_none_and_halves_of_a_client_are_the_client() -> None:
    updates = torch.randn(6, 9, generator=torch.Generator().manual_seed(4))
    equal, plain = CenteredClipping(1.0, 2, weighted=True), CenteredClipping(1.0, 2)
    for _ in range(2):
        assert torch.equal(equal(updates, torch.full((6,), 3.0)), plain(updates))
    weights = torch.arange(1.0, 7)
    halves = torch.cat([weights[:1] / 2, weights[1:], weights[:1] / 2])
    split = CenteredClipping(1.0, 2, weighted=True)(torch.cat([updates, updates[:1]]), halves)
    torch.testing.assert_close(split, CenteredClipping(1.0, 2, weighted=True)(updates, weights))


def test_most_clients_with_less_than_half_of_the_weight_cannot_hold_it_off() -> None:
    honest = torch.full((2, 3), 5.0)
    updates = torch.cat([honest, torch.full((6, 3), -1e12)])
    weights = torch.tensor([0.3, 0.3] + [0.4 / 6] * 6)
    rule = CenteredClipping(1.0, weighted=True)
    for _ in range(80):
        vector = rule(updates, weights)
    # Where the honest ones pull as hard as the others: .6 d = .4 tau.
    assert float((vector - honest[0]).norm()) == pytest.approx(2 / 3, rel=1e-3)


def bucket_by_bucket(updates: Tensor, center: Tensor, radius: float, buckets: list[list[int]]) -> Tensor:
    for bucket in buckets:
        center = moved_by_hand(center, updates[bucket], radius, torch.full((len(bucket),), 1 / len(bucket)).double())
    return center


def test_sequential_moves_by_buckets_that_mix_strata_of_cosines() -> None:
    updates = torch.randn(9, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rule = CenteredClipping(0.5, sequential=True, bucket_size=3)
    center = rule(updates, generator=torch.Generator().manual_seed(1))
    cosines = torch.nn.functional.cosine_similarity(updates, center[None], dim=1)
    strata = {int(row): place // 3 for place, row in enumerate(cosines.argsort())}
    chosen: list[list[list[int]]] = []
    original = CenteredClipping._buckets

    def recorded(self: CenteredClipping, *arguments: object) -> list[Tensor]:
        buckets = original(self, *arguments)  # type: ignore[arg-type]
        chosen.append([bucket.tolist() for bucket in buckets])
        return buckets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CenteredClipping, "_buckets", recorded)
        vectors = [copy.deepcopy(rule)(updates, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    for buckets, vector in zip(chosen, vectors, strict=True):
        assert sorted(row for bucket in buckets for row in bucket) == list(range(9))
        assert all({strata[row] for row in bucket} == {0, 1, 2} for bucket in buckets)
        torch.testing.assert_close(vector, bucket_by_bucket(updates, center, 0.5, buckets))
    assert chosen[0] != chosen[1]
    assert not torch.equal(*vectors)


@pytest.mark.parametrize(("count", "size"), [(1, 3), (5, 3), (7, 3), (4, 1), (3, 9)])
def test_sequential_takes_every_client_once_whatever_the_number(count: int, size: int) -> None:
    updates = torch.eye(count, dtype=torch.float64)
    rule = CenteredClipping(0.1, sequential=True, bucket_size=size)
    influence = rule.aggregate(updates, generator=torch.Generator().manual_seed(count)).influence
    assert bool((influence > 0).all())
    assert float(influence.sum()) == pytest.approx(1)


def test_sequential_and_weighted_no_site_moves_far() -> None:
    updates = torch.randn(6, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.006, 0.494, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64)
    attacked = updates.clone()
    attacked[0] = 1e12
    vectors = []
    for rows in (updates, attacked):
        rule = CenteredClipping(0.1, sequential=True, weighted=True)
        vectors.append(rule(rows, weights, generator=torch.Generator().manual_seed(2)))
    assert float((vectors[0] - vectors[1]).norm()) <= 2 * 2 * 0.006 * 0.1 * 2  # two buckets; others move with it


def test_the_center_is_carried_by_name_and_may_be_forgotten() -> None:
    updates = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    rule, other = CenteredClipping(0.3), CenteredClipping(0.3)
    assert rule.state() == {}
    first = rule(updates)
    assert torch.equal(rule.state()["center"], first)
    other.restore(rule.state())
    second = rule(updates)
    assert torch.equal(other(updates), second)
    assert not torch.equal(first, second)
    rule.restore({})
    assert torch.equal(rule(updates), first)
    with pytest.raises(InputError, match="carried from the last round has 4 numbers, and rows have 3; expected rows"):
        rule(updates[:, :3])
    with pytest.raises(InputError, match=r"CenteredClipping remembers its center; expected that, got \['speed'\]"):
        rule.restore({"speed": first})


def test_a_failed_round_is_not_remembered_and_a_rejected_row_moves_nothing() -> None:
    updates = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    rule = CenteredClipping(0.3)
    broken = updates.clone()
    broken[:3, 0] = torch.nan
    with pytest.raises(AggregationError, match="at most 2 may be lost"):
        rule(broken)
    assert rule.state() == {}
    broken[1:3] = updates[1:3]
    assert torch.equal(rule(broken), CenteredClipping(0.3)(updates[1:]))


def test_the_center_is_no_mixture() -> None:
    updates = torch.randn(7, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    piped, alone = Pipeline([NNM(2), CenteredClipping(0.5)]), CenteredClipping(0.5)
    for _ in range(3):
        torch.testing.assert_close(piped(updates), alone(NNM(2)(updates)))


def test_a_radius_has_the_rows_unit_however_large() -> None:
    """Squares of such numbers are beyond float64."""
    updates = torch.tensor([[3e200, 4e200], [0, 0]], dtype=torch.float64)
    assert CenteredClipping(1e200)(updates).div(1e200).tolist() == pytest.approx([0.3, 0.4])


def test_what_is_out_of_range_is_said() -> None:
    for radius in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="radius must be positive and finite"):
            CenteredClipping(radius)
    with pytest.raises(InputError, match="num_iterations must be at least 1, but is 0"):
        CenteredClipping(1.0, num_iterations=0)
    with pytest.raises(InputError, match="bucket_size must be at least 1, but is 0"):
        CenteredClipping(1.0, sequential=True, bucket_size=0)
