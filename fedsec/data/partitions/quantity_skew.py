"""Unequal sizes, equal distributions of labels."""

import numpy as np

from fedsec.data.partitions.apportionment import apportion, dirichlet, positive
from fedsec.data.partitions.partition import Ints, Partition


class QuantitySkew(Partition):
    """Unequal sizes, equal distributions of labels: the smaller alpha, the more unequal.

    With m = min_per_client, N examples and K clients: n_i = m + (N - K m) p_i (rounded), p ~ Dir(alpha, ..., alpha),
    and the examples are shuffled. The minimum is given out first, so it can always be kept and nothing is drawn twice;
    the usual form draws p until all sizes happen to be large enough.

    Args:
        alpha: concentration, greater than 0.
        min_per_client: fewest examples a client may get.

    Reference: Li, Diao, Chen, He, "Federated learning on non-IID data silos", 2022, arXiv:2102.02079.
    """

    name = "quantity_skew"
    needs_classes = False

    def __init__(self, alpha: float = 0.5, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.alpha = positive("alpha", alpha)

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        rest = np.array([len(strata) - num_clients * self.min_per_client])
        extra = apportion(dirichlet(np.full(num_clients, self.alpha), 1, rng), rest)[0]
        owners: Ints = rng.permutation(np.repeat(np.arange(num_clients), self.min_per_client + extra))
        return owners
