"""The robust learning rate against a slow oracle in NumPy."""

import numpy as np
import pytest
import torch

from fedsec.defenses import RLR, Mean
from fedsec.errors import AggregationError, InputError


@pytest.mark.parametrize("threshold", [0, 1, 3, 7])
def test_flipped_where_too_few_agree(threshold: int) -> None:
    rng = np.random.default_rng(threshold)
    updates, weights = rng.integers(-2, 3, (7, 80)).astype(np.float64), rng.uniform(0.5, 2, 7)
    expected = []
    for column in updates.T:
        mean = float(np.dot(column, weights) / weights.sum())
        expected.append(mean if abs(int((column > 0).sum()) - int((column < 0).sum())) >= threshold else -mean)
    aggregate = RLR(threshold).aggregate(updates, weights)
    np.testing.assert_allclose(aggregate.vector.numpy(), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(aggregate.influence.numpy(), weights / weights.sum(), rtol=1e-12)


def test_golden_values() -> None:
    updates = torch.tensor([[1.0, 4, -2, 0], [2, 4, -2, 0], [3, -5, -2, 8]])
    assert RLR(threshold=3)(updates).tolist() == pytest.approx([2, -1, -2, -8 / 3])
    assert RLR(threshold=1)(updates).tolist() == pytest.approx([2, 1, -2, 8 / 3])
    # A client of weight zero does not vote: two of three signs remain.
    assert RLR(threshold=2)(updates, [1, 1, 0]).tolist() == [1.5, 4, -2, 0]


def test_without_a_threshold_it_is_the_mean() -> None:
    updates = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(RLR(threshold=0)(updates), Mean()(updates))
    assert torch.equal(RLR(threshold=1)(updates[:1]), updates[0])


def test_a_backdoor_of_few_is_turned_round() -> None:
    updates = torch.zeros(10, 3)
    updates[:2, 0] = 5.0
    updates[:, 1] = 1.0
    step = RLR(threshold=4)(updates)
    assert step[0] < 0 < step[1]


def test_thresholds_out_of_range() -> None:
    with pytest.raises(InputError, match="threshold must not be negative, but is -1"):
        RLR(-1)
    with pytest.raises(InputError, match="no 3 signs reach a threshold of 4"):
        RLR(4)(torch.zeros(3, 2))
    assert RLR(2)(torch.ones(4, 1), [1, 1, 0, 0]).tolist() == [1]
    with pytest.raises(AggregationError, match="RLR: 2 clients with weight, too few for a threshold of 3"):
        RLR(3)(torch.ones(4, 1), [1, 1, 0, 0])
    broken = torch.ones(5, 2)
    broken[:2] = torch.nan
    assert RLR(3)(broken).tolist() == [1, 1]
    with pytest.raises(AggregationError, match="at most 1 may be lost"):
        RLR(4)(broken)
