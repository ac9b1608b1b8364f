"""Minimum diameter averaging against all subsets, tried one by one."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Pipeline
from fedsec.defenses import MDA, NNM
from fedsec.errors import AggregationError, InputError


def diameter(rows: np.ndarray) -> float:
    return max((float(np.linalg.norm(one - other)) for one, other in combinations(rows, 2)), default=0.0)


def by_hand(updates: Tensor, spare: int) -> tuple[float, list[tuple[int, ...]]]:
    """The smallest diameter and all subsets that have it, of the smallest sum of squared distances first."""
    rows = updates.double().numpy()
    subsets = {chosen: diameter(rows[list(chosen)]) for chosen in combinations(range(len(rows)), len(rows) - spare)}
    smallest = min(subsets.values())
    least = [chosen for chosen, length in subsets.items() if length <= smallest * (1 + 1e-9)]
    return smallest, sorted(least, key=lambda chosen: float(np.var(rows[list(chosen)], axis=0).sum()))


def chosen(rule: MDA, updates: Tensor) -> list[int]:
    influence = rule.aggregate(updates).influence
    rows = influence.nonzero().flatten().tolist()
    assert influence[rows].tolist() == pytest.approx([1 / len(rows)] * len(rows))
    return rows


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(0, 10_000), st.sampled_from([1, 2, 30]), st.booleans(), st.data())
def test_all_subsets(rows: int, seed: int, columns: int, ties: bool, data: st.DataObject) -> None:
    spare = data.draw(st.integers(0, (rows - 1) // 2))
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (rows, columns)) if ties else rng.standard_normal((rows, columns))
    updates = torch.from_numpy(values.astype(np.float64))
    smallest, subsets = by_hand(updates, spare)
    subset = chosen(MDA(spare), updates)
    assert len(subset) == rows - spare
    assert diameter(values[subset]) == pytest.approx(smallest, abs=1e-9)
    if not ties:
        assert tuple(subset) == subsets[0]
        np.testing.assert_allclose(MDA(spare)(updates), values[subset].mean(0), rtol=1e-12, atol=1e-12)


def simplex(levels: np.ndarray) -> Tensor:
    """Rows of which every two are sqrt(1 + level / 50) apart."""
    distances = 1 + levels / 50
    np.fill_diagonal(distances, 0.0)
    center = np.eye(len(levels)) - 1 / len(levels)
    values, vectors = np.linalg.eigh(-center @ distances @ center / 2)
    return torch.from_numpy(vectors * np.sqrt(np.clip(values, 0, None)))


@settings(deadline=None, max_examples=25)
@given(st.integers(5, 10), st.integers(1, 4), st.integers(0, 10_000))
def test_any_pattern_of_distances(rows: int, most: int, seed: int) -> None:
    levels = np.triu(np.random.default_rng(seed).integers(0, most + 1, (rows, rows)))
    updates = simplex((levels + levels.T).astype(np.float64))
    spare = (rows - 1) // 3
    smallest, _ = by_hand(updates, spare)
    assert diameter(updates.numpy()[chosen(MDA(spare), updates)]) == pytest.approx(smallest, rel=1e-6)


def test_a_row_may_stay_for_which_all_others_that_are_far_from_it_go() -> None:
    # The first row is far from three others, each of them from two more: these three have to go, and no fourth may.
    levels = np.zeros((10, 10))
    for hub, others in ((1, (0, 4, 5)), (2, (0, 6, 7)), (3, (0, 8, 9))):
        levels[hub, list(others)] = levels[list(others), hub] = 5
    assert chosen(MDA(3), simplex(levels)) == [0, 4, 5, 6, 7, 8, 9]


def test_golden_values() -> None:
    updates = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [9, 9]])
    aggregate = MDA(1).aggregate(updates)
    assert aggregate.vector.tolist() == [0.5, 0.5]
    assert aggregate.suspected == (4,)
    # The first two rows are 1 apart, and with either of the others no further; the last one varies less.
    tied = torch.tensor([[0.0, 0], [1, 0], [0.5, 0.6], [0.5, -0.5]])
    assert MDA(1)(tied).tolist() == pytest.approx([0.5, -0.5 / 3])
    assert MDA(1)(tied[[3, 1, 2, 0]]).tolist() == pytest.approx([0.5, -0.5 / 3])
    assert MDA(2)(torch.tensor([[5.0], [1], [1], [-7], [1]])).tolist() == [1]


def test_colluding_rows_are_left_out() -> None:
    updates = torch.randn(20, 200, generator=torch.Generator().manual_seed(0))
    updates[16:] += 1.0
    assert MDA(4).aggregate(updates).suspected == (16, 17, 18, 19)
    assert MDA(9).aggregate(updates.roll(4, 0)).influence[:4].sum() == 0


def test_what_is_given_up_is_at_most_twice_the_diameter() -> None:
    for seed in range(20):
        updates = torch.randn(9, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        subset = chosen(MDA(3, max_visits=0), updates)
        assert len(subset) == 6
        assert diameter(updates.numpy()[subset]) <= 2 * by_hand(updates, 3)[0]
        assert len(chosen(MDA(3, max_visits=3), updates)) == 6


def test_many_rows_do_not_take_many_branches() -> None:
    # 100 rows have 5e20 subsets of 80; in the direction of the one that matters they are in order.
    updates = torch.arange(100.0, dtype=torch.float64).square()[:, None]
    assert MDA(20, max_visits=300)(updates)[0] == pytest.approx(float(updates[:80].mean()))


def test_equal_rows_huge_rows_and_one_client() -> None:
    row = torch.tensor([[0.5, -1.0]])
    assert torch.equal(MDA(2)(row.repeat(5, 1)), row[0])
    assert torch.equal(MDA(0)(row), row[0])
    assert torch.equal(MDA(1)(torch.tensor([[1.0], [1], [3e38]])), torch.tensor([1.0]))
    huge = torch.tensor([[1e150], [1.1e150], [-1e160]], dtype=torch.float64)
    assert float(MDA(1)(huge)) == pytest.approx(1.05e150)


def test_it_is_told_mixtures() -> None:
    updates = torch.randn(9, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = Pipeline([NNM(2), MDA(2)])(updates)
    torch.testing.assert_close(together, MDA(2)(NNM(2)(updates)))


def test_rejected_rows_are_byzantine() -> None:
    updates = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    broken = torch.cat([torch.full((1, 20), torch.inf), updates])
    aggregate = MDA(2).aggregate(broken)
    assert torch.equal(aggregate.vector, MDA(1)(updates))
    assert len(aggregate.suspected or ()) == 2
    assert 0 in (aggregate.suspected or ())
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        MDA(0)(broken)


def test_conditions() -> None:
    with pytest.raises(InputError, match="num_byzantine 2 needs at least 5 rows, not 4"):
        MDA(2)(torch.zeros(4, 2))
    with pytest.raises(InputError, match="num_byzantine must not be negative, but is -1"):
        MDA(-1)
    with pytest.raises(InputError, match="max_visits must not be negative, but is -1"):
        MDA(1, max_visits=-1)
