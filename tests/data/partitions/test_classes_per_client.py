"""A bounded number of classes for each client."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data.partitions import ClassesPerClient, Ints, class_counts
from fedsec.errors import PartitionError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32))
def test_classes_per_client_is_bounded_and_complete(width: int, num_classes: int, clients: int, seed: int) -> None:
    labels = np.repeat(np.arange(num_classes), 200)
    partition = ClassesPerClient(width)
    if width > num_classes:
        with pytest.raises(PartitionError, match="classes have examples"):
            partition(labels, clients, num_classes=num_classes, rng=rng(seed))
    elif width * clients < num_classes:
        with pytest.raises(PartitionError, match="cannot take all"):
            partition(labels, clients, num_classes=num_classes, rng=rng(seed))
    else:
        counts = class_counts(partition(labels, clients, num_classes=num_classes, rng=rng(seed)), labels, num_classes)
        assert (counts > 0).sum(axis=1).max() <= width
        assert (counts.sum(axis=0) == 200).all()
        for row in counts:
            # Consecutive, cyclically: rotating the row somewhere puts everything into its first `width` places.
            assert any(np.roll(row, -start)[width:].sum() == 0 for start in range(num_classes))


def test_classes_per_client_has_unequal_sizes_and_skips_absent_classes() -> None:
    labels = np.repeat([2, 5, 7, 11], 500)
    parts = ClassesPerClient(2)(labels, 20, num_classes=12, rng=rng())
    sizes = [len(part) for part in parts]
    assert max(sizes) > 3 * min(sizes)
    assert min(sizes) > 5


def test_classes_per_client_says_when_the_minimum_cannot_be_kept() -> None:
    with pytest.raises(PartitionError, match=r"client \d+ of 20 gets \d examples.*in the best of 1000 draws"):
        ClassesPerClient(1, min_per_client=10)(balanced(10, 20), 20, num_classes=10, rng=rng())


def test_small_shares_of_equal_weights_add_up_to_their_due() -> None:
    # All clients take all 20 classes: each class alone would be rounded in favor of the same clients.
    labels = balanced(20, 30)
    sizes = np.array([len(part) for part in ClassesPerClient(20)(labels, 25, num_classes=20, rng=rng())])
    generator = rng()
    weights = generator.integers(10, 100, size=25, endpoint=True)
    assert sizes == pytest.approx(weights / weights.sum() * 600, abs=2.5)
