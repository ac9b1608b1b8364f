"""What partitions tell examples apart by, and what a partition gave to whom."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedsec.data.partitions.partition import Ints, at_least
from fedsec.errors import PartitionError


def quantile_strata(targets: NDArray[np.floating], num_strata: int = 10) -> Ints:
    """Strata of equal size for targets that are numbers: 0 for the smallest, num_strata - 1 for the largest.

    Partitions by class then skew the targets instead. Equal targets share a stratum.

    Args:
        targets: one number an example.
        num_strata: number of strata, at least 1.

    Raises:
        PartitionError: targets that are not one finite number an example, or fewer of them than strata.
    """
    at_least("num_strata", num_strata, 1)
    targets = np.asarray(targets)
    if targets.ndim != 1 or targets.dtype.kind not in "fiu" or not np.isfinite(targets).all():
        raise PartitionError(
            f"targets must be one finite number per example, got {targets.dtype} {list(targets.shape)}"
        )
    check_strata(len(targets), num_strata)
    edges = np.quantile(targets, np.arange(1, num_strata) / num_strata)
    return np.searchsorted(edges, targets, side="right").astype(np.int64)


def check_strata(num_examples: int, num_strata: int) -> None:
    """Refuse more strata than examples; a run asks this before it loads anything.

    Args:
        num_examples: number of examples.
        num_strata: number of strata.

    Raises:
        PartitionError: there are more.
    """
    if num_examples < num_strata:
        raise PartitionError(f"{num_examples} examples are too few for {num_strata} strata")


def class_counts(parts: Sequence[Ints], labels: NDArray[np.integer], num_classes: int) -> Ints:
    """Number of examples of each client and class, [clients, classes]."""
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    cells = owners * num_classes + labels[np.concatenate(parts)]
    return np.bincount(cells, minlength=len(parts) * num_classes).reshape(len(parts), num_classes)
