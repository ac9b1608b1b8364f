"""Ways to share a dataset's examples out among clients.

Every example goes to exactly one client: a partition is stored as the client of each example, so it can
neither lose an example nor give it out twice.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from fedsec.errors import PartitionError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TRIES = 1_000


class Partition(ABC):
    """A way to share examples out among clients; calling it does so.

    The contract is kept here: valid input, every example to exactly one client, the minimum per client. A
    subclass fills in `assign`.

    Args:
        min_per_client: fewest examples a client may get, at least 1.
    """

    def __init__(self, min_per_client: int = 1) -> None:
        self.min_per_client = _at_least("min_per_client", min_per_client, 1)

    @final
    def __call__(
        self, labels: NDArray[np.integer], num_clients: int, *, num_classes: int, rng: np.random.Generator
    ) -> list[Ints]:
        """Share the examples out.

        Args:
            labels: class of each example, in 0..num_classes-1.
            num_clients: number of clients, at least 1.
            num_classes: number of classes.
            rng: source of all randomness; equal generators give equal partitions.

        Returns:
            For each client the numbers of its examples, ascending. Disjoint, and together all.

        Raises:
            PartitionError: bad input, too few examples, or the minimum cannot be kept; the text says what to change.
        """
        _at_least("num_clients", num_clients, 1)
        _at_least("num_classes", num_classes, 1)
        labels = np.asarray(labels)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise PartitionError(f"labels must be one integer per example, got {labels.dtype} {list(labels.shape)}")
        if len(labels) < num_clients * self.min_per_client:
            raise PartitionError(
                f"{self._name()}: {len(labels)} examples are too few for {num_clients} clients with at least "
                f"{self.min_per_client} each; take fewer clients or more examples"
            )
        if labels.min() < 0 or labels.max() >= num_classes:
            raise PartitionError(f"labels must lie in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}")
        owners = self.assign(labels.astype(np.int64, copy=False), num_clients, num_classes, rng)
        if owners.shape != labels.shape or owners.min() < 0 or owners.max() >= num_clients:
            raise PartitionError(f"{self._name()}: assign must return one client in 0..{num_clients - 1} per example")
        sizes = np.bincount(owners, minlength=num_clients)
        if sizes.min() < self.min_per_client:
            raise self._too_few(int(sizes.argmin()), int(sizes.min()), num_clients)
        return [part.astype(np.int64) for part in np.split(np.argsort(owners, kind="stable"), np.cumsum(sizes)[:-1])]

    @abstractmethod
    def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
        """The client of each example."""

    def _too_few(self, client: int, size: int, num_clients: int, tries: int = 1, advice: str = "") -> PartitionError:
        return PartitionError(
            f"{self._name()}: client {client} of {num_clients} gets {size} examples, fewer than min_per_client = "
            f"{self.min_per_client}"
            + (f", in the best of {tries} draws" if tries > 1 else "")
            + f"; take {advice}fewer clients"
            + (" or a smaller minimum" if self.min_per_client > 1 else " or more examples")
        )

    def _name(self) -> str:
        return next((name for name, kind in PARTITIONS.items() if kind is type(self)), type(self).__name__)


class Iid(Partition):
    """Shuffled and dealt out evenly: every client's data follow the same distribution.

    Sizes differ by at most one. Keeps any minimum up to floor(examples / clients).

    Args:
        min_per_client: fewest examples a client may get.

    Reference: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", 2017.
    """

    def __init__(self, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)

    def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        return rng.permutation(np.arange(len(labels)) % num_clients)


class Dirichlet(Partition):
    """Label skew drawn from a Dirichlet distribution: the smaller alpha, the fewer classes a client has.

    Two families go by this name and give different splits for the same alpha.

    per_class: each class is split over the clients, p_c ~ Dir(alpha, ..., alpha) with one entry a client
    (Yurochkin et al.; FedML, Flower). Sizes vary, the more the smaller alpha. Drawn anew, 1,000 times at
    most, until each client has its minimum; then an error.

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

    def __init__(
        self,
        alpha: float = 0.5,
        family: Literal["per_class", "per_client"] = "per_class",
        min_per_client: int = 1,
    ) -> None:
        super().__init__(min_per_client)
        if family not in ("per_class", "per_client"):
            raise PartitionError(f"dirichlet: family must be 'per_class' or 'per_client', got {family!r}")
        self.alpha = _positive("alpha", alpha)
        self.family = family

    def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        available = np.bincount(labels, minlength=num_classes)
        counts = (self._per_class if self.family == "per_class" else self._per_client)(available, num_clients, rng)
        order = _sorted_by_label(labels, rng)
        clients = np.tile(np.arange(num_clients), num_classes)
        owners = np.empty_like(labels)
        owners[order] = np.repeat(clients, counts.T.ravel())
        return owners

    def _per_class(self, available: Ints, num_clients: int, rng: np.random.Generator) -> Ints:
        """Examples of each client and class."""
        best, lowest = 0, -1
        for _ in range(_TRIES):
            shares = _dirichlet(np.full(num_clients, self.alpha), len(available), rng)
            counts = _apportion(shares, available)
            sizes = counts.sum(axis=0)
            if sizes.min() >= self.min_per_client:
                return counts.T
            if sizes.min() > lowest:
                best, lowest = int(sizes.argmin()), int(sizes.min())
        advice = "a larger alpha, family per_client (its sizes are equal), "
        raise self._too_few(best, lowest, num_clients, _TRIES, advice)

    def _per_client(self, available: Ints, num_clients: int, rng: np.random.Generator) -> Ints:
        """Examples of each client and class."""
        left = available.copy()
        there = np.flatnonzero(available)
        wishes = np.zeros((num_clients, len(available)))
        wishes[:, there] = _dirichlet(self.alpha * available[there] / available.sum(), num_clients, rng)
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

    def __init__(self, shards_per_client: int = 2, balanced: bool = True, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.shards_per_client = _at_least("shards_per_client", shards_per_client, 1)
        self.balanced = balanced

    def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        num_shards = num_clients * self.shards_per_client
        if len(labels) < num_shards:
            raise PartitionError(
                f"shards: {len(labels)} examples are too few for {num_clients} clients x {self.shards_per_client} "
                "shards of at least one example; take fewer clients or fewer shards per client"
            )
        number = np.full(num_clients, self.shards_per_client)
        if not self.balanced:
            number = self._unequal_numbers(num_shards, num_clients, rng)
        client_of_shard = rng.permutation(np.repeat(np.arange(num_clients), number))
        owners = np.empty_like(labels)
        owners[_sorted_by_label(labels, rng)] = client_of_shard[np.arange(len(labels)) * num_shards // len(labels)]
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

    def __init__(self, num_classes_per_client: int = 2, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.num_classes_per_client = _at_least("num_classes_per_client", num_classes_per_client, 1)

    def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        # Classes without examples are left out: a client that took only such would get nothing.
        _, labels, available = np.unique(labels, return_inverse=True, return_counts=True)
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
        for _ in range(_TRIES):
            weights = rng.integers(10, 100, size=num_clients, endpoint=True)
            starts = self._starts(len(available), num_clients, rng)
            takes = (np.arange(len(available))[:, None] - starts) % len(available) < width
            shares = takes * weights
            counts = _apportion(shares / shares.sum(axis=1, keepdims=True), available)
            sizes = counts.sum(axis=0)
            if sizes.min() >= self.min_per_client:
                owners = np.empty_like(labels)
                clients = np.tile(np.arange(num_clients), len(available))
                owners[_sorted_by_label(labels, rng)] = np.repeat(clients, counts.ravel())
                return owners
            if sizes.min() > lowest:
                best, lowest = int(sizes.argmin()), int(sizes.min())
        raise self._too_few(best, lowest, num_clients, _TRIES)

    def _starts(self, num_classes: int, num_clients: int, rng: np.random.Generator) -> Ints:
        """First class of each client: enough clients in a row to cover all classes, the others anywhere."""
        cover = np.arange(0, num_classes, self.num_classes_per_client)
        free = rng.integers(0, num_classes, size=num_clients - len(cover))
        return rng.permutation(np.concatenate([(cover + rng.integers(num_classes)) % num_classes, free]))


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

    def __init__(self, alpha: float = 0.5, min_per_client: int = 1) -> None:
        super().__init__(min_per_client)
        self.alpha = _positive("alpha", alpha)

    def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
        """See `Partition.assign`."""
        rest = np.array([len(labels) - num_clients * self.min_per_client])
        extra = _apportion(_dirichlet(np.full(num_clients, self.alpha), 1, rng), rest)[0]
        owners: Ints = rng.permutation(np.repeat(np.arange(num_clients), self.min_per_client + extra))
        return owners


def class_counts(parts: Sequence[Ints], labels: NDArray[np.integer], num_classes: int) -> Ints:
    """Number of examples of each client and class, [clients, classes]."""
    return np.stack([np.bincount(labels[part], minlength=num_classes) for part in parts])


def _sorted_by_label(labels: Ints, rng: np.random.Generator) -> Ints:
    """Numbers of the examples class by class, within a class in random order."""
    shuffled = rng.permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _apportion(shares: Floats, totals: Ints) -> Ints:
    """Whole numbers in proportion to the shares.

    Row i sums to totals[i] exactly; each entry is within one of totals[i] x its share, and 0 where the share is 0.
    """
    cumulative = np.cumsum(shares, axis=1)
    edges = np.rint(cumulative / cumulative[:, -1:] * totals[:, None]).astype(np.int64)
    counts: Ints = np.diff(edges, axis=1, prepend=0)
    return counts


def _dirichlet(alpha: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Draws of a Dirichlet distribution, one a row."""
    shares = rng.dirichlet(alpha, size=draws)
    if not np.isfinite(shares).all():
        raise PartitionError(
            f"alpha is beyond what can be drawn from ({alpha.min():g}..{alpha.max():g}); expected about 0.001..1e6"
        )
    return shares


def _at_least(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise PartitionError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise PartitionError(f"{name} must be a finite number greater than 0, got {value!r}")
    return float(value)


PARTITIONS: dict[str, type[Partition]] = {
    "iid": Iid,
    "dirichlet": Dirichlet,
    "shards": Shards,
    "classes_per_client": ClassesPerClient,
    "quantity_skew": QuantitySkew,
}
