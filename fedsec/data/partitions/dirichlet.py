"""Label skew drawn from a Dirichlet distribution."""

from typing import Literal

import numpy as np

from fedsec.data.partitions.apportionment import (
    TRIES,
    apportion,
    apportion_jointly,
    dirichlet,
    hopeless,
    positive,
    sorted_by_stratum,
)
from fedsec.data.partitions.partition import Ints, Partition
from fedsec.errors import PartitionError


class Dirichlet(Partition):
    """Label skew drawn from a Dirichlet distribution: the smaller alpha, the fewer classes a client has.

    Two families go by this name and give different splits for the same alpha.

    per_class: each class is split over the clients, p_c ~ Dir(alpha, ..., alpha) with one entry a client
    (Yurochkin et al.; FedML, Flower). Sizes vary, the more the smaller alpha; as alpha grows they become equal.
    Drawn anew, 1,000 times at most, until each client has its minimum; then an error.

    per_client: each client draws q_k ~ Dir(alpha p) with one entry a class, where p are the shares of the
    classes in the whole (so the entries sum to alpha), and takes its examples accordingly from what is left
    (Hsu et al.). A class that runs out is made up for by the client's other classes in proportion to q_k, and
    then by any. Sizes differ by at most one; keeps any minimum up to floor(examples / clients).

    Args:
        alpha: concentration, greater than 0.
        family: which of the two.
        min_per_client: fewest examples a client may get.

    Reference: Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution", 2019, arXiv:1909.06335;
        Yurochkin et al., "Bayesian nonparametric federated learning of neural networks", 2019, arXiv:1905.12022.
    """

    name = "dirichlet"

    def __init__(
        self,
        alpha: float = 0.5,
        family: Literal["per_class", "per_client"] = "per_class",
        min_per_client: int = 1,
    ) -> None:
        super().__init__(min_per_client)
        if family not in ("per_class", "per_client"):
            raise PartitionError(f"dirichlet: family must be 'per_class' or 'per_client', got {family!r}")
        self.alpha = positive("alpha", alpha)
        self.family = family

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        available = np.bincount(strata, minlength=num_strata)
        counts = (self._per_class if self.family == "per_class" else self._per_client)(available, num_clients, rng)
        order = sorted_by_stratum(strata, rng)
        clients = np.tile(np.arange(num_clients), num_strata)
        owners = np.empty_like(strata)
        owners[order] = np.repeat(clients, counts.T.ravel())
        return owners

    def _per_class(self, available: Ints, num_clients: int, rng: np.random.Generator) -> Ints:
        """Examples of each client and class."""
        best, lowest = 0, -1
        # Where a draw scatters by less than half an example, all classes would round to the same clients.
        deviation = np.sqrt((num_clients - 1) / (num_clients * self.alpha + 1)) / num_clients  # of one share
        scatter = deviation * available[available > 0].min()
        round_to_counts = apportion if scatter >= 0.5 else apportion_jointly
        fewest_short = num_clients
        for draws in range(1, TRIES + 1):
            shares = dirichlet(np.full(num_clients, self.alpha), len(available), rng)
            counts = round_to_counts(shares, available)
            sizes = counts.sum(axis=0)
            if sizes.min() >= self.min_per_client:
                return counts.T
            if sizes.min() > lowest:
                best, lowest = int(sizes.argmin()), int(sizes.min())
            fewest_short = min(fewest_short, int((sizes < self.min_per_client).sum()))
            if hopeless(draws, fewest_short):
                break
        advice = "a larger alpha, family per_client (its sizes are equal), "
        raise self._too_few(best, lowest, num_clients, draws, advice)

    def _per_client(self, available: Ints, num_clients: int, rng: np.random.Generator) -> Ints:
        """Examples of each client and class."""
        left = available.copy()
        there = np.flatnonzero(available)
        wishes = np.zeros((num_clients, len(available)))
        wishes[:, there] = dirichlet(self.alpha * available[there] / available.sum(), num_clients, rng)
        sizes = np.full(num_clients, available.sum() // num_clients)
        sizes[: available.sum() % num_clients] += 1
        counts = np.zeros((num_clients, len(available)), np.int64)
        # In random order: whoever comes late must take what is left, and that shall not go by a client's number.
        for client, size in zip(rng.permutation(num_clients), rng.permutation(sizes), strict=True):
            while (missing := size - counts[client].sum()) > 0:
                # Each turn meets the wish or uses up a class, so there are at most as many turns as classes.
                wish = np.where(left > 0, wishes[client], 0.0)
                wish = wish if wish.sum() > 0 else left.astype(np.float64)
                taken = np.minimum(rng.multinomial(missing, wish / wish.sum()), left)
                counts[client] += taken
                left -= taken
        return counts
