"""The natural partition: whoever an example comes from has it."""

from typing import ClassVar

import numpy as np

from fedsec.data.partitions.partition import Ints, Partition
from fedsec.errors import PartitionError


class ByGroup(Partition):
    """The natural partition: who wrote or said an example is its client, and nobody's examples are divided.

    With as many clients as the data have groups (roles of plays, writers of digits), each client is one of them, in
    their order. With fewer, groups are dealt out at random, so many to each that their numbers differ by at most one;
    sizes follow the groups'. More clients than groups there cannot be.

    Args:
        min_per_client: fewest examples a client may get.

    Reference: Caldas et al., "LEAF: a benchmark for federated settings", 2018, arXiv:1812.01097.
    """

    name = "by_group"
    needs_groups: ClassVar[bool] = True
    counts_classes: ClassVar[bool] = True

    def __init__(self, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`; strata are the groups."""
        present = np.unique(strata)
        if num_clients > len(present):
            raise PartitionError(
                f"by_group: {num_clients} clients, but the examples come from {len(present)} groups; expected at most "
                f"partition.clients = {len(present)}"
            )
        clients = np.arange(len(present))
        if num_clients < len(present):
            clients = rng.permutation(clients % num_clients)
        owner_of = np.zeros(num_strata, np.int64)
        owner_of[present] = clients
        return owner_of[strata]
