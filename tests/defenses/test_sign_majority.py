"""Majority vote of signs against votes counted one by one."""

import numpy as np
import pytest
import torch

from fedsec.defenses import SignMajority
from fedsec.errors import AggregationError, InputError


def by_hand(updates: list[list[float]]) -> tuple[list[int], list[float]]:
    """Each column's outcome, and each row's part of those."""
    outcomes, parts = [], [0.0] * len(updates)
    for column in zip(*updates, strict=True):
        ayes, noes = sum(value > 0 for value in column), sum(value < 0 for value in column)
        outcome = (ayes > noes) - (ayes < noes)
        winners = [row for row, value in enumerate(column) if value * outcome > 0] or list(range(len(column)))
        for row in winners:
            parts[row] += 1 / len(winners)
        outcomes.append(outcome)
    return outcomes, [part / len(outcomes) for part in parts]


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_votes(rows: int) -> None:
    updates = torch.from_numpy(np.random.default_rng(rows).integers(-2, 3, (rows, 60))).double()
    outcomes, parts = by_hand(updates.tolist())
    aggregate = SignMajority(scale=0.5).aggregate(updates)
    assert aggregate.vector.tolist() == [0.5 * outcome for outcome in outcomes]
    np.testing.assert_allclose(aggregate.influence.numpy(), parts, rtol=1e-12)


def test_golden_values() -> None:
    updates = torch.tensor([[3.0, -1, 0, 1e30], [0.1, -9, 0, -1], [-700, 2, 5, 0]])
    assert SignMajority()(updates).tolist() == [1, -1, 1, 0]
    assert SignMajority()(updates, weights=[0, 0, 1]).tolist() == [1, -1, 1, 0]


def test_a_minority_moves_nothing_where_the_others_agree() -> None:
    honest = torch.randn(1, 30, generator=torch.Generator().manual_seed(0)).repeat(5, 1)
    attacked = torch.cat([honest, -1e30 * honest[:4]])
    assert torch.equal(SignMajority()(attacked), honest[0].sign())
    assert torch.equal(SignMajority()(torch.cat([attacked[1:], attacked[-2:]])), -honest[0].sign())


def test_non_finite_rows_do_not_vote() -> None:
    updates = torch.tensor([[1.0], [-1], [torch.inf], [1]])
    assert SignMajority().aggregate(updates).rejected == (2,)
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        SignMajority()(updates[1:3])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_malformed_step(scale: float) -> None:
    with pytest.raises(InputError, match="scale must be a positive number"):
        SignMajority(scale)
