"""Every client's data follow the same distribution."""

import numpy as np

from fedsec.data.partitions.partition import Ints, Partition


class Iid(Partition):
    """Shuffled and dealt out evenly: every client's data follow the same distribution.

    Sizes differ by at most one. Keeps any minimum up to floor(examples / clients).

    Args:
        min_per_client: fewest examples a client may get.

    Reference: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", 2017.
    """

    name = "iid"
    needs_classes = False

    def __init__(self, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        return rng.permutation(np.arange(len(strata)) % num_clients)
