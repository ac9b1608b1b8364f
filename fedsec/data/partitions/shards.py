"""Label-sorted shards."""

import numpy as np

from fedsec.data.partitions.apportionment import sorted_by_stratum
from fedsec.data.partitions.partition import Ints, Partition, at_least
from fedsec.errors import PartitionError


class Shards(Partition):
    """Sorted by label and cut into equal shards; each client gets a few of them at random.

    There are shards_per_client x clients shards; their sizes differ by at most one, and within a class the
    examples are shuffled. With two shards a client has one or two classes, or a few more where a shard
    straddles a border. Balanced, it keeps any minimum up to shards_per_client x floor(examples / shards).

    Unbalanced, client i gets n_i ~ U{1, ..., 3 shards_per_client} shards, scaled so that together they get all
    (at least one each; what rounding leaves over goes to those with fewest). It keeps any minimum up to
    floor(examples / shards). With 10 shards for each of 100 clients this is 1,000 shards and n_i ~ U{1..30}.

    Args:
        shards_per_client: number of shards of each client, or their average if unbalanced.
        balanced: whether all clients get the same number of shards.
        min_per_client: fewest examples a client may get.

    Reference: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", 2017.
    """

    name = "shards"

    def __init__(self, shards_per_client: int = 2, balanced: bool = True, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.shards_per_client = at_least("shards_per_client", shards_per_client, 1)
        self.balanced = balanced

    def check_size(self, num_examples: int, num_clients: int) -> None:
        """See `Partition.check_size`."""
        super().check_size(num_examples, num_clients)
        if num_examples < num_clients * self.shards_per_client:
            raise PartitionError(
                f"shards: {num_examples} examples are too few for {num_clients} clients x {self.shards_per_client} "
                "shards of at least one example; take fewer clients or fewer shards per client"
            )

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        num_shards = num_clients * self.shards_per_client
        number = np.full(num_clients, self.shards_per_client)
        if not self.balanced:
            number = self._unequal_numbers(num_shards, num_clients, rng)
        client_of_shard = rng.permutation(np.repeat(np.arange(num_clients), number))
        owners = np.empty_like(strata)
        owners[sorted_by_stratum(strata, rng)] = client_of_shard[np.arange(len(strata)) * num_shards // len(strata)]
        return owners

    def _unequal_numbers(self, num_shards: int, num_clients: int, rng: np.random.Generator) -> Ints:
        """Number of shards of each client."""
        drawn = rng.integers(1, 3 * self.shards_per_client, size=num_clients, endpoint=True)
        number: Ints = np.maximum(drawn * num_shards // drawn.sum(), 1)
        # The floor of 1 may give out too many: take them back from those with most.
        while (surplus := int(number.sum()) - num_shards) > 0:
            largest = np.argsort(-number, kind="stable")[: min(surplus, num_clients)]
            number[largest[number[largest] > 1]] -= 1
        while (leftover := num_shards - int(number.sum())) > 0:
            number[np.argsort(number, kind="stable")[:leftover]] += 1
        return number
