"""Shuffled and dealt out evenly."""

import numpy as np

from fedsec.data.partitions import Iid, Ints, class_counts


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


def test_iid_sizes_differ_by_one_and_sorted_labels_are_mixed() -> None:
    labels = np.repeat(np.arange(10), 100)  # sorted: contiguous slices would give each client one class
    counts = class_counts(Iid()(labels, 7, num_classes=10, rng=rng()), labels, 10)
    assert set(counts.sum(axis=1)) == {142, 143}
    assert counts.min() > 3
