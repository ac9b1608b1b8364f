"""A bounded number of classes for each client."""

from typing import ClassVar

import numpy as np

from fedsec.data.partitions.apportionment import TRIES, apportion, apportion_jointly, hopeless, sorted_by_stratum
from fedsec.data.partitions.partition import Ints, Partition, at_least
from fedsec.errors import PartitionError

_SMALL = 10
"""Examples of a class at a client, on average, below which rounding is felt."""


class ClassesPerClient(Partition):
    """A bounded number of classes for each client, and unequal sizes.

    Each client takes num_classes_per_client consecutive classes (cyclically) from a random start, such that no
    class is left out, and has a weight from U{10, ..., 100}. A class is split over the clients that take it in
    proportion to their weights: sizes follow the weights as far as they can when every example goes to somebody.
    Drawn anew, 1,000 times at most, until each client has its minimum; then an error.

    Args:
        num_classes_per_client: most classes a client may have.
        min_per_client: fewest examples a client may get.

    Reference: Li, Diao, Chen, He, "Federated learning on non-IID data silos", 2022, arXiv:2102.02079 (there "#C = k",
        with classes drawn singly and without weights).
    """

    name = "classes_per_client"
    counts_classes: ClassVar[bool] = True

    def __init__(self, num_classes_per_client: int = 2, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.num_classes_per_client = at_least("num_classes_per_client", num_classes_per_client, 1)

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        # Classes without examples are left out: a client that took only such would get nothing.
        _, strata, available = np.unique(strata, return_inverse=True, return_counts=True)
        width = self.num_classes_per_client
        if width > len(available):
            raise PartitionError(
                f"classes_per_client: num_classes_per_client is {width}, but only {len(available)} classes "
                f"have examples"
            )
        if width * num_clients < len(available):
            raise PartitionError(
                f"classes_per_client: {num_clients} clients with {width} classes each cannot take all "
                f"{len(available)} classes; take more clients or more classes per client"
            )
        best, lowest = 0, -1
        fewest_short = num_clients
        for draws in range(1, TRIES + 1):
            weights = rng.integers(10, 100, size=num_clients, endpoint=True)
            starts = self._starts(len(available), num_clients, rng)
            takes = (np.arange(len(available))[:, None] - starts) % len(available) < width
            shares = takes * weights
            # Weights are the same in all classes, so are the roundings of small shares.
            small = (available / takes.sum(axis=1)).min() < _SMALL
            round_to_counts = apportion_jointly if small else apportion
            counts = round_to_counts(shares / shares.sum(axis=1, keepdims=True), available)
            sizes = counts.sum(axis=0)
            if sizes.min() >= self.min_per_client:
                owners = np.empty_like(strata)
                clients = np.tile(np.arange(num_clients), len(available))
                owners[sorted_by_stratum(strata, rng)] = np.repeat(clients, counts.ravel())
                return owners
            if sizes.min() > lowest:
                best, lowest = int(sizes.argmin()), int(sizes.min())
            fewest_short = min(fewest_short, int((sizes < self.min_per_client).sum()))
            if hopeless(draws, fewest_short):
                break
        raise self._too_few(best, lowest, num_clients, draws)

    def _starts(self, num_classes: int, num_clients: int, rng: np.random.Generator) -> Ints:
        """First class of each client: enough clients in a row to cover all classes, the others anywhere."""
        cover = np.arange(0, num_classes, self.num_classes_per_client)
        free = rng.integers(0, num_classes, size=num_clients - len(cover))
        return rng.permutation(np.concatenate([(cover + rng.integers(num_classes)) % num_classes, free]))
