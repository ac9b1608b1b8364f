"""RFLBAT: its plane against a singular value decomposition, its filters and the cluster that it takes."""

import pytest
import torch
from torch import Tensor

from fedsec.defense.geometry.clusters import k_means, number_of_clusters
from fedsec.defenses import RFLBAT
from fedsec.defenses.rflbat import principal_components
from fedsec.errors import InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_groups(honest: float = 1.5, others: float = 0.5) -> Tensor:
    """Eight updates about one direction and seven about another, each group with deviations of its own."""
    first, second = 10 * torch.eye(2, 3)
    spread = torch.randn(15, 3, generator=seeded(1))
    return torch.cat([first + honest * spread[:8], second + others * spread[8:]])


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_the_plane_is_that_of_the_singular_vectors(rows: int) -> None:
    points = torch.randn(rows, 30, generator=seeded(rows), dtype=torch.float64) + 5
    centered = points - points.mean(0)
    plane = centered @ torch.linalg.svd(centered, full_matrices=False).Vh[:2].T
    result = principal_components(torch.cdist(points, points) ** 2)
    assert result.shape == (rows, 2)
    torch.testing.assert_close(torch.cdist(result, result), torch.cdist(plane, plane), atol=1e-5, rtol=1e-5)


def test_the_group_that_agrees_less_with_itself_remains() -> None:
    updates = two_groups()
    aggregate = RFLBAT().aggregate(updates, generator=seeded(3))
    assert aggregate.suspected == (8, 9, 10, 11, 12, 13, 14)
    torch.testing.assert_close(aggregate.vector, updates[:8].mean(0))
    # Whoever agrees even less than honest clients do is chosen in their place.
    taken = RFLBAT().aggregate(two_groups(honest=0.5, others=1.5), generator=seeded(3))
    assert taken.suspected == (0, 1, 2, 3, 4, 5, 6, 7)


def test_far_updates_are_left_out_before_clusters_and_stray_ones_after() -> None:
    updates = torch.cat([two_groups()[:8], torch.tensor([[2e3, 0.0, 0.0]])])
    assert RFLBAT().aggregate(updates, generator=seeded(3)).suspected == (8,)
    stray = torch.cat([two_groups()[:8], torch.tensor([[12.0, 5.0, 3.0]])])
    assert RFLBAT().aggregate(stray, generator=seeded(3)).suspected == ()
    sums = torch.cdist(stray, stray).sum(1)
    bound = float(sums[8] / sums.median()) * 0.95
    assert RFLBAT(stray=bound).aggregate(stray, generator=seeded(3)).suspected == (8,)


def test_clusters_are_counted_by_the_gap_statistic() -> None:
    def blobs(count: int) -> Tensor:
        centers = 20 * torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]], dtype=torch.float64)
        return (centers[:count, None] + torch.randn(count, 12, 2, generator=seeded(1))).flatten(0, 1)

    for count in (1, 2, 4):
        assert number_of_clusters(blobs(count), 9, seeded(2)) == count
    labels, within = k_means(blobs(2), 2, seed=1)
    assert len({*labels[:12].tolist()}) == len({*labels[12:].tolist()}) == 1
    parts = blobs(2)[:12], blobs(2)[12:]
    assert within == pytest.approx(sum(float((part - part.mean(0)).square().sum()) for part in parts))
    assert number_of_clusters(torch.ones(6, 2, dtype=torch.float64), 9, seeded(2)) == 1
    assert number_of_clusters(blobs(3), 2, seeded(2)) <= 2


@pytest.mark.parametrize("updates", [torch.ones(1, 4), torch.ones(5, 4), torch.zeros(3, 4), -torch.ones(2, 1)])
def test_of_equal_rows_nobody_is_suspected(updates: Tensor) -> None:
    aggregate = RFLBAT().aggregate(updates, generator=seeded(1))
    torch.testing.assert_close(aggregate.vector, updates[0])
    assert aggregate.suspected == ()


def test_equal_generators_give_equal_results_and_bad_rows_are_suspected() -> None:
    updates = torch.randn(9, 50, generator=seeded(1))
    updates[4, 0] = torch.nan
    first, again = (RFLBAT().aggregate(updates, generator=seeded(5)) for _ in range(2))
    assert first.suspected == again.suspected
    assert first.suspected is not None
    assert 4 in first.suspected
    for far, stray in ((0.5, 4.0), (10.0, float("nan"))):
        with pytest.raises(InputError, match="far and stray must be finite and at least 1"):
            RFLBAT(far, stray)
