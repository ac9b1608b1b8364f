"""Partitions stay what they were: published numbers were trained on these."""

import hashlib

import numpy as np
import pytest

from fedsec.data.partitions import ClassesPerClient, Dirichlet, Iid, Partition, QuantitySkew, Shards
from fedsec.data.partitions.apportionment import TRIES
from fedsec.errors import PartitionError

KNOWN: list[tuple[Partition, str]] = [
    (Iid(), "6b1ac19ce97e2387"),
    (Dirichlet(), "32fd0e4ad127e67e"),
    (Dirichlet(5.0, min_per_client=3), "bb7aa7b27bcdb85e"),
    (Dirichlet(0.3, "per_client"), "ccf80ddb1ca8e21c"),
    (Shards(), "2c458571e63c92a7"),
    (Shards(3, balanced=False), "88730487ddfc13ee"),
    (ClassesPerClient(2), "e91cd8606f295bea"),
    (QuantitySkew(0.5), "f1ff0c8e81981fb0"),
]


def digest(parts: list[np.ndarray]) -> str:
    text = ";".join(",".join(map(str, part.tolist())) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("partition", "known"), KNOWN, ids=[f"{type(p).__name__}-{known}" for p, known in KNOWN])
def test_the_same_seed_gives_the_same_partition_as_ever(partition: Partition, known: str) -> None:
    labels = np.random.default_rng(7).integers(0, 10, 600)
    assert digest(partition(labels, 25, num_classes=10, rng=np.random.default_rng(11))) == known


@pytest.mark.parametrize("partition", [Dirichlet(0.1), ClassesPerClient(1, min_per_client=2)])
def test_a_minimum_that_no_draw_comes_near_is_given_up_early(partition: Partition) -> None:
    labels = np.random.default_rng(7).integers(0, 10, 2000)
    with pytest.raises(PartitionError, match="in the best of 20 draws"):
        partition(labels, 1000, num_classes=10, rng=np.random.default_rng(0))


def test_a_minimum_that_draws_come_near_is_tried_to_the_end() -> None:
    labels = np.random.default_rng(7).integers(0, 10, 600)
    with pytest.raises(PartitionError, match=f"in the best of {TRIES} draws"):
        Dirichlet(0.02)(labels, 40, num_classes=10, rng=np.random.default_rng(0))
