"""Unequal sizes, equal distributions."""

import numpy as np
import pytest

from fedsec.data.partitions import Ints, QuantitySkew, class_counts


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


def test_quantity_skew_gives_out_the_minimum_first() -> None:
    labels = balanced(10, 600)
    sizes = np.array([len(p) for p in QuantitySkew(0.05, min_per_client=10)(labels, 50, num_classes=10, rng=rng())])
    assert sizes.min() >= 10
    assert sizes.max() > 1000
    counts = class_counts(QuantitySkew(0.5)(labels, 5, num_classes=10, rng=rng()), labels, 10)
    large = counts[counts.sum(axis=1) > 1000]
    assert len(large)
    assert (large / large.sum(axis=1, keepdims=True)) == pytest.approx(0.1, abs=0.04)
