"""CAF against its algorithm in the space of the parameters, with singular vectors from NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.defense import top_direction
from fedsec.defenses import CAF
from fedsec.errors import AggregationError, InputError


def by_hand(updates: Tensor, num_byzantine: int) -> np.ndarray:
    """The weights, relative to their sum."""
    rows = updates.double().numpy()
    weights, candidates = np.ones(len(rows)), []
    if num_byzantine == 0:
        return weights / weights.sum()
    while weights.sum() > len(rows) - 2 * num_byzantine:
        differences = rows - np.average(rows, axis=0, weights=weights)
        scaled = differences * np.sqrt(weights / weights.sum())[:, None]
        _, lengths, directions = np.linalg.svd(scaled, full_matrices=False)
        candidates.append((lengths[0] ** 2, weights / weights.sum()))
        projections = (differences @ directions[0]) ** 2
        if projections.max() < 1e-20:
            break
        weights = weights * np.clip(1 - projections / projections[weights > 0].max(), 0, None)
    return min(candidates, key=lambda candidate: candidate[0])[1]


@pytest.mark.parametrize("num_byzantine", [0, 1, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_algorithm(num_byzantine: int, seed: int) -> None:
    updates = torch.randn(9, 15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    updates[:num_byzantine] += 2.0
    weights = by_hand(updates, num_byzantine)
    aggregate = CAF(num_byzantine).aggregate(updates)
    np.testing.assert_allclose(aggregate.influence.numpy(), weights, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(aggregate.vector.numpy(), weights @ updates.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("rows", "num_byzantine", "seed"), [(5, 2, 3), (7, 3, 0), (9, 4, 0)])
def test_the_last_step_need_not_be_the_best(rows: int, num_byzantine: int, seed: int) -> None:
    updates = torch.randn(rows, 15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = by_hand(updates, num_byzantine)
    assert (weights > 0).sum() >= rows - 2  # further steps would take the weight of more rows
    np.testing.assert_allclose(CAF(num_byzantine).aggregate(updates).influence.numpy(), weights, rtol=1e-6, atol=1e-9)


def test_golden_values() -> None:
    # About the mean of 3 the outlier is 6 away: it loses all of its weight, and the others keep what stands here. Their
    # variance is smaller; the next step leaves too little weight to go on.
    updates = torch.tensor([[0.0], [1], [2], [9]])
    weights = torch.tensor([1 - (3 / 6) ** 2, 1 - (2 / 6) ** 2, 1 - (1 / 6) ** 2])
    assert CAF(1)(updates)[0] == pytest.approx(float((weights[1] + 2 * weights[2]) / weights.sum()), rel=1e-6)
    assert CAF(1).aggregate(updates).suspected == (3,)
    assert CAF(0)(updates).tolist() == [3]


def test_the_same_every_time_and_in_any_order() -> None:
    # ByzFL draws a direction: 26 different answers to one question, up to 24% apart.
    updates = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector = CAF(3)(updates)
    for seed in range(3):
        order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(CAF(3)(updates[order]), vector, rtol=1e-9, atol=1e-12)


def test_equally_good_directions() -> None:
    # Four corners of a square vary alike in all directions: none is preferred, so none of the corners is.
    square = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    distances = (square[:, None] - square).square().sum(2)
    value, projections = top_direction(distances, torch.ones(4, dtype=torch.float64))
    assert value == pytest.approx(1)
    assert projections.tolist() == pytest.approx([2] * 4)
    assert CAF(1)(square).tolist() == pytest.approx([0, 0])


def test_equal_rows_huge_rows_and_one_client() -> None:
    row = torch.tensor([[0.5, -1.0]])
    assert torch.equal(CAF(2)(row.repeat(5, 1)), row[0])
    assert torch.equal(CAF(0)(row), row[0])
    assert torch.equal(CAF(1)(torch.tensor([[1.0], [1], [3e38]])), torch.tensor([1.0]))
    huge = torch.tensor([[1e150], [1e150], [-1e160]], dtype=torch.float64)
    assert float(CAF(1)(huge)) == pytest.approx(1e150)


def test_rejected_rows_are_byzantine() -> None:
    updates = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    updates[:3] *= torch.tensor([[30.0], [10], [5]])  # it matters how many have to go
    broken = torch.cat([updates, torch.full((1, 20), torch.nan)])
    assert not torch.allclose(CAF(2)(updates), CAF(1)(updates))
    assert torch.equal(CAF(2)(broken), CAF(1)(updates))
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        CAF(0)(broken)


def test_conditions() -> None:
    with pytest.raises(InputError, match="num_byzantine 2 needs at least 5 rows, not 4"):
        CAF(2)(torch.zeros(4, 2))
    with pytest.raises(InputError, match="num_byzantine must not be negative, but is -1"):
        CAF(-1)
