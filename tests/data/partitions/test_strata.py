"""Partitions of examples that have no classes."""

import numpy as np
import pytest

from fedsec.data.partitions import PARTITIONS, Dirichlet, Iid, QuantitySkew, quantile_strata
from fedsec.errors import PartitionError


def test_quantiles_are_of_equal_size_and_ordered() -> None:
    targets = np.random.default_rng(0).normal(size=1000)
    strata = quantile_strata(targets, 8)
    assert np.bincount(strata).tolist() == [125] * 8
    for stratum in range(7):
        assert targets[strata == stratum].max() <= targets[strata == stratum + 1].min()
    assert len(set(quantile_strata(np.array([1, 2, 2, 2, 9.0]), 3)[1:4])) == 1  # equal targets stay together


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (np.array([0.0, np.nan]), "one finite number per example"),
        (np.zeros((3, 1)), "one finite number per example"),
        (np.array(["a", "b"]), "one finite number per example"),
        (np.zeros(3), "3 examples are too few for 10 strata"),
    ],
)
def test_bad_targets_are_refused(targets: np.ndarray, says: str) -> None:
    with pytest.raises(PartitionError, match=says):
        quantile_strata(targets)


def test_partitions_that_look_at_classes_say_so() -> None:
    assert {name for name, kind in PARTITIONS.items() if not kind.needs_classes} == {"iid", "quantity_skew"}
    with pytest.raises(PartitionError, match=r"dirichlet shares examples out by class, but these have none.*quantiles"):
        Dirichlet()(None, 2, rng=np.random.default_rng(0), num_examples=10)
    with pytest.raises(PartitionError, match="num_examples must be an integer of at least 1, got None"):
        Iid()(None, 2, rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", [Iid, QuantitySkew])
def test_without_strata_the_split_is_that_of_one_class(kind: type[Iid]) -> None:
    without, with_one = (
        kind()(strata, 3, rng=np.random.default_rng(1), num_examples=50) for strata in (None, np.zeros(50, np.int64))
    )
    assert all(np.array_equal(a, b) for a, b in zip(without, with_one, strict=True))


def test_targets_are_skewed_through_their_quantiles() -> None:
    targets = np.random.default_rng(0).normal(size=2000)
    parts = Dirichlet(0.1)(quantile_strata(targets), 5, rng=np.random.default_rng(0))
    spread = [targets[part].mean() for part in parts]
    assert max(spread) - min(spread) > 0.5
