"""Shards: the report's two forms, and a slow oracle."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data.partitions import Ints, Shards, class_counts
from fedsec.errors import PartitionError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


def test_shards_are_the_report_s_200_shards_of_250() -> None:
    labels = balanced(10, 5000)
    parts = Shards(shards_per_client=2)(labels, 100, num_classes=10, rng=rng())
    counts = class_counts(parts, labels, 10)
    assert (counts.sum(axis=1) == 500).all()
    assert np.isin(counts, [0, 250, 500]).all()
    assert set((counts > 0).sum(axis=1)) == {1, 2}


def test_shards_against_a_slow_oracle() -> None:
    # Which client owns the shard at each place of the sorted order: constant within a shard of floor or ceil size.
    labels = balanced(3, 37)
    parts = Shards(shards_per_client=2)(labels, 5, num_classes=3, rng=rng())
    counts = class_counts(parts, labels, 3)
    boundaries = [-(-len(labels) * shard // 10) for shard in range(11)]
    shards = [np.sort(labels)[a:b] for a, b in pairwise(boundaries)]
    assert {len(shard) for shard in shards} == {11, 12}
    pools = sorted(np.bincount(shard, minlength=3).tolist() for shard in shards)

    # Every client's counts must be the sum of two shards, and each shard be used once.
    def match(clients: list[list[int]], left: list[list[int]]) -> bool:
        if not clients:
            return not left
        for i, j in combinations(range(len(left)), 2):
            if [a + b for a, b in zip(left[i], left[j], strict=True)] == clients[0]:
                rest = [shard for k, shard in enumerate(left) if k not in (i, j)]
                if match(clients[1:], rest):
                    return True
        return False

    assert match(counts.tolist(), pools)


def test_shards_shuffle_ties() -> None:
    labels = np.zeros(1000, np.int64)
    first = Shards()(labels, 10, num_classes=1, rng=rng())[0]
    # Unshuffled, it would be two runs of neighbors; shuffled, one in ten has its neighbor.
    assert (np.diff(first) > 1).mean() > 0.5


def test_unbalanced_shards_are_the_report_s_first_form() -> None:
    labels = balanced(10, 5000)
    numbers = []
    for seed in range(20):
        parts = Shards(shards_per_client=10, balanced=False)(labels, 100, num_classes=10, rng=rng(seed))
        sizes = np.array([len(part) for part in parts])
        assert (sizes % 50 == 0).all()
        assert sizes.sum() == 50_000
        numbers.append(sizes // 50)
    drawn = np.concatenate(numbers)
    # n_i ~ U{1..30} has mean 15.5 and is scaled to a mean of 10: up to about 20, all about equally often; those that
    # are scaled below 1 get 1, and one more of what the rounding leaves over (which also narrows the spread a little).
    assert drawn.min() in (1, 2)
    assert 19 <= drawn.max() <= 24
    assert drawn.std() == pytest.approx(np.sqrt((30**2 - 1) / 12) * 10 / 15.5, rel=0.15)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))
def test_unequal_numbers_of_shards_use_all_and_leave_nobody_out(clients: int, shards: int, seed: int) -> None:
    number = Shards(shards, balanced=False)._unequal_numbers(clients * shards, clients, rng(seed))
    assert number.sum() == clients * shards
    assert number.min() >= 1


def test_too_many_shards_are_refused() -> None:
    with pytest.raises(PartitionError, match="15 examples are too few for 4 clients x 4 shards"):
        Shards(shards_per_client=4)(np.zeros(15, np.int64), 4, num_classes=1, rng=rng())
