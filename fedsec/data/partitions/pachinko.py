"""Two-level label skew: first over coarse classes, then over the fine classes of each."""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from fedsec.data.partitions.apportionment import dirichlet, positive, sorted_by_stratum
from fedsec.data.partitions.partition import Floats, Ints, Partition
from fedsec.errors import PartitionError


class Pachinko(Partition):
    """Two-level label skew: clients differ in coarse classes by alpha, and within a coarse class in fine ones by beta.

    Client k draws q_k ~ Dir(alpha, ..., alpha) over the coarse classes and, for each of them, r_k ~ Dir(beta, ...,
    beta) over its fine classes; each of its examples falls through this tree and is taken from what is left. A fine
    class that has run out is cut off and r_k renormalized, so that the other fine classes of the same coarse class make
    up for it; a coarse class without any fine one left is cut off from q_k. Sizes differ by at most one; keeps any
    minimum up to floor(examples / clients). Clients are served in random order, since the last ones take what is left.

    Examples are drawn by counts, all of a client's at once and those that ran out once more, which has the same
    distribution as one after another: a draw from a renormalized distribution is one that is repeated until it falls on
    what is there. The paper has 500 clients with alpha 0.1 and beta 10.

    Args:
        alpha: concentration over the coarse classes, greater than 0.
        beta: concentration over the fine classes of a coarse one, greater than 0.
        min_per_client: fewest examples a client may get.

    Reference: Li, McCallum, "Pachinko allocation", ICML 2006; Reddi et al., "Adaptive federated optimization", ICLR
        2021, arXiv:2003.00295, appendix F.
    """

    name = "pachinko"
    needs_superclasses: ClassVar[bool] = True

    def __init__(self, alpha: float = 0.1, beta: float = 10.0, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.alpha, self.beta = positive("alpha", alpha), positive("beta", beta)
        self.superclasses: tuple[int, ...] = ()

    def of_tree(self, superclasses: Sequence[int]) -> Self:
        """The same partition of data whose coarse classes are known.

        Args:
            superclasses: the coarse class of each fine one.
        """
        other = copy.copy(self)
        other.superclasses = tuple(superclasses)
        return other

    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        coarse = np.array(self.superclasses, np.int64)
        if len(coarse) != num_strata:
            raise PartitionError(
                f"pachinko: expected the coarse class of each of {num_strata} classes, got {len(coarse)}; take data "
                "that have them (cifar100), or dirichlet"
            )
        left = np.bincount(strata, minlength=num_strata)
        sizes = np.full(num_clients, len(strata) // num_clients)
        sizes[: len(strata) % num_clients] += 1
        counts = np.zeros((num_clients, num_strata), np.int64)
        for client, size in zip(rng.permutation(num_clients), rng.permutation(sizes), strict=True):
            counts[client] = self._fall(int(size), left, coarse, rng)
            left -= counts[client]
        owners = np.empty_like(strata)
        clients = np.tile(np.arange(num_clients), num_strata)
        owners[sorted_by_stratum(strata, rng)] = np.repeat(clients, counts.T.ravel())
        return owners

    def _fall(self, size: int, left: Ints, coarse: Ints, rng: np.random.Generator) -> Ints:
        """How many of each fine class a client gets of what is left."""
        groups = [np.flatnonzero(coarse == group) for group in range(int(coarse.max()) + 1)]
        root = dirichlet(np.full(len(groups), self.alpha), 1, rng)[0]
        leaves = [dirichlet(np.full(max(1, len(group)), self.beta), 1, rng)[0] for group in groups]
        taken = np.zeros_like(left)
        while missing := size - int(taken.sum()):
            there = np.array([(left - taken)[group].sum() for group in groups])
            drawn = rng.multinomial(missing, _renormalized(root, there))
            for group, wish, number in zip(groups, leaves, np.minimum(drawn, there), strict=True):
                self._fill(taken, left, group, wish, int(number), rng)
        return taken

    @staticmethod
    def _fill(taken: Ints, left: Ints, group: Ints, wish: Floats, number: int, rng: np.random.Generator) -> None:
        """Take so many examples of a coarse class, of which there are enough."""
        while number:
            there = (left - taken)[group]
            part = np.minimum(rng.multinomial(number, _renormalized(wish, there)), there)
            taken[group] += part
            number -= int(part.sum())


def _renormalized(shares: Floats, there: Ints) -> Floats:
    """Shares of what is still there; where all of them are zero, by number."""
    open_shares = np.where(there > 0, shares, 0.0)
    open_shares = open_shares if open_shares.sum() > 0 else there.astype(np.float64)
    normalized: Floats = open_shares / open_shares.sum()
    return normalized
