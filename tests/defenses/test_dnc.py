"""Divide and conquer against its algorithm with singular vectors from NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.defense import Pipeline
from fedsec.defenses import NNM, DnC, Mean
from fedsec.errors import AggregationError, InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(updates: Tensor, num_dropped: int, num_iters: int, sub_dim: int, seed: int) -> list[int]:
    """How often each row is dropped."""
    generator, drops = seeded(seed), [0] * len(updates)
    for _ in range(num_iters):
        columns = torch.randperm(updates.shape[1], generator=generator)[:sub_dim]
        rows = updates[:, columns].double().numpy()
        centered = rows - rows.mean(0)
        projections = (centered @ np.linalg.svd(centered, full_matrices=False)[2][0]) ** 2
        for row in sorted(range(len(rows)), key=lambda row: -projections[row])[:num_dropped]:
            drops[row] += 1
    return drops


@pytest.mark.parametrize(("num_byzantine", "filter_frac", "num_dropped"), [(2, 1.0, 2), (3, 1.5, 4), (1, 0.5, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_the_algorithm(num_byzantine: int, filter_frac: float, num_dropped: int, seed: int) -> None:
    updates = torch.randn(9, 60, generator=seeded(seed), dtype=torch.float64)
    updates[:num_byzantine] += 0.5
    drops = by_hand(updates, num_dropped, 3, 20, seed)
    kept = [row for row in range(9) if drops[row] == min(drops)]
    rule = DnC(num_byzantine, num_iters=3, sub_dim=20, filter_frac=filter_frac)
    aggregate = rule.aggregate(updates, generator=seeded(seed))
    assert aggregate.suspected == tuple(row for row in range(9) if row not in kept)
    torch.testing.assert_close(aggregate.vector, updates[kept].mean(0))


def test_golden_values() -> None:
    updates = torch.tensor([[0.0, 1], [0, 2], [0, 3], [0, 14]])  # 9 of the mean's 5 away; the others 4 at most
    assert DnC(1)(updates, generator=seeded(0)).tolist() == [0, 2]
    assert DnC(0)(updates, generator=seeded(0)).tolist() == [0, 5]


def test_an_empty_intersection_is_no_nan() -> None:
    # Each row stands out in a coordinate of its own, and every coordinate is drawn at some time.
    updates = torch.eye(5, dtype=torch.float64)
    drops = by_hand(updates, 1, 40, 1, seed=0)
    assert min(drops) > 0
    kept = [row for row in range(5) if drops[row] == min(drops)]
    vector = DnC(1, num_iters=40, sub_dim=1)(updates, generator=seeded(0))
    torch.testing.assert_close(vector, updates[kept].mean(0))


def test_intersection_and_not_union() -> None:
    # A peer averages all rows that were ever kept, which lets every outlier in that is not seen in all coordinates.
    updates = torch.randn(9, 40, generator=seeded(0))
    updates[0, :20] += 100
    updates[1, 20:] += 100
    aggregate = DnC(2, num_iters=8, sub_dim=4, filter_frac=0.5).aggregate(updates, generator=seeded(1))
    assert {0, 1} <= set(aggregate.suspected or ())


def test_equal_rows_one_client_and_mixtures() -> None:
    row = torch.tensor([[0.5, -1.0]])
    assert torch.equal(DnC(2)(row.repeat(5, 1), generator=seeded(0)), row[0])
    assert torch.equal(DnC(0)(row, generator=seeded(0)), row[0])
    updates = torch.randn(9, 30, generator=seeded(0), dtype=torch.float64)
    rule = DnC(2, num_iters=2, sub_dim=10)
    torch.testing.assert_close(
        Pipeline([NNM(2), rule])(updates, generator=seeded(3)), rule(NNM(2)(updates), generator=seeded(3))
    )


def test_rejected_rows_are_byzantine() -> None:
    updates = torch.randn(7, 20, generator=seeded(0))
    broken = torch.cat([updates, torch.full((1, 20), torch.nan)])
    assert torch.equal(DnC(2)(broken, generator=seeded(0)), DnC(1)(updates, generator=seeded(0)))
    assert torch.equal(DnC(1)(broken, generator=seeded(0)), Mean()(updates))
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        DnC(0)(broken, generator=seeded(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_byzantine": -1}, "num_byzantine must not be negative, but is -1"),
        ({"num_byzantine": 1, "num_iters": 0}, "num_iters and sub_dim must be at least 1, but are 0 and 10000"),
        ({"num_byzantine": 1, "sub_dim": 0}, "num_iters and sub_dim must be at least 1, but are 5 and 0"),
        ({"num_byzantine": 1, "filter_frac": float("nan")}, "filter_frac must be a positive number, but is nan"),
    ],
)
def test_malformed_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DnC(**options)  # type: ignore[arg-type]


def test_conditions() -> None:
    with pytest.raises(InputError, match=r"num_byzantine 2 and filter_frac 1.0 need at least 5 rows, not 4"):
        DnC(2)(torch.zeros(4, 2), generator=seeded(0))
    with pytest.raises(InputError, match=r"filter_frac 3.0 need at least 7 rows, not 6"):
        DnC(2, filter_frac=3.0)(torch.zeros(6, 2), generator=seeded(0))
    with pytest.raises(InputError, match="draws random numbers"):
        DnC(2)(torch.zeros(6, 2))
