"""Bulyan against its two stages written out in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.defense import Pipeline
from fedsec.defenses import NNM, Bulyan, Mean
from fedsec.errors import AggregationError, InputError


def by_hand(updates: Tensor, num_byzantine: int) -> tuple[list[int], np.ndarray]:
    """The rows that are picked, in order, and the result."""
    rows = updates.double().numpy()
    left, picked = list(range(len(rows))), []
    while len(picked) < len(rows) - 2 * num_byzantine:
        scores = {}
        for row in left:
            others = sorted(float(((rows[row] - rows[other]) ** 2).sum()) for other in left if other != row)
            nearest = max(0, len(left) - num_byzantine - 2)
            scores[row] = (round(sum(others[:nearest]), 9), sum(others))
        picked.append(min(left, key=lambda row: scores[row]))
        left.remove(picked[-1])
    values = rows[picked]
    distances = np.abs(values - np.median(values, axis=0))
    nearest_values = np.take_along_axis(values, np.argsort(distances, axis=0), axis=0)
    return picked, nearest_values[: len(picked) - 2 * num_byzantine].mean(0)


@pytest.mark.parametrize(("rows", "num_byzantine"), [(3, 0), (7, 1), (8, 1), (11, 2), (13, 2), (15, 3)])
@pytest.mark.parametrize("seed", range(2))
def test_both_stages(rows: int, num_byzantine: int, seed: int) -> None:
    updates = torch.randn(rows, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    updates[:num_byzantine] += 0.7
    picked, expected = by_hand(updates, num_byzantine)
    aggregate = Bulyan(num_byzantine).aggregate(updates)
    np.testing.assert_allclose(aggregate.vector.numpy(), expected, rtol=1e-12, atol=1e-12)
    assert aggregate.suspected == tuple(sorted(set(range(rows)) - set(picked)))


def test_golden_values() -> None:
    # Krum's five picks leave 0 and 50; the three values nearest to the median 3 of the others are 2, 3 and 4.
    updates = torch.tensor([[0.0], [1], [2], [3], [4], [5], [50]])
    picked, expected = by_hand(updates, 1)
    assert sorted(picked) == [1, 2, 3, 4, 5]
    assert expected.tolist() == [3]
    aggregate = Bulyan(1).aggregate(updates)
    assert aggregate.vector.tolist() == [3]
    assert aggregate.suspected == (0, 6)
    assert aggregate.influence.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0])


def test_one_ranking_is_not_enough() -> None:
    # Colluders that are close together score well among all rows. Run again on what is left, Krum passes some of them.
    updates = torch.randn(15, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    updates[:3] = updates[3:].mean(0) - 0.3 * updates[3:].std(0)
    picked, _ = by_hand(updates, 3)
    distances = torch.cdist(updates, updates).square().fill_diagonal_(torch.inf)
    once = distances.sort(1).values[:, :10].sum(1).sort().indices[:9].tolist()
    assert set(once) != set(picked)
    assert set(Bulyan(3).aggregate(updates).suspected or ()) == set(range(15)) - set(picked)


def test_no_byzantine_client_is_the_mean() -> None:
    updates = torch.randn(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(Bulyan(0)(updates), Mean()(updates))
    assert Bulyan(0).aggregate(updates).suspected == ()


def test_equal_rows_huge_rows_and_mixtures() -> None:
    row = torch.tensor([[0.5, -1.0]])
    torch.testing.assert_close(Bulyan(1)(row.repeat(7, 1)), row[0])
    huge = torch.cat([row.repeat(5, 1), torch.full((2, 2), 3e38)])
    torch.testing.assert_close(Bulyan(1)(huge), row[0])
    updates = torch.randn(11, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(Pipeline([NNM(2), Bulyan(2)])(updates), Bulyan(2)(NNM(2)(updates)))


def test_rejected_rows_are_byzantine() -> None:
    updates = torch.randn(11, 20, generator=torch.Generator().manual_seed(0))
    broken = torch.cat([updates, torch.full((1, 20), torch.nan)])
    assert torch.equal(Bulyan(2)(broken), Bulyan(1)(updates))
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        Bulyan(0)(broken)


def test_conditions() -> None:
    with pytest.raises(InputError, match="num_byzantine 2 needs at least 11 rows, not 10"):
        Bulyan(2)(torch.zeros(10, 2))
    with pytest.raises(InputError, match="num_byzantine must not be negative, but is -1"):
        Bulyan(-1)
