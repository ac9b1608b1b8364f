"""What a partition is: the client of each example, and the promises that hold whatever the kind.

Every example goes to exactly one client: a partition is stored as the client of each example, so it can
neither lose an example nor give it out twice.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from fedsec.errors import PartitionError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Partition(ABC):
    """A way to share examples out among clients; calling it does so.

    The contract is kept here: valid input, every example to exactly one client, the minimum per client. A
    subclass fills in `assign`.

    Args:
        min_per_client: fewest examples a client may get, at least 1.
    """

    name: ClassVar[str] = ""
    """What messages call it; by default its class."""
    needs_classes: ClassVar[bool] = True
    """Whether it looks at strata. One that does not also partitions examples that have none."""
    needs_groups: ClassVar[bool] = False
    """Whether its strata are whom examples come from (roles, writers), in place of classes."""
    needs_superclasses: ClassVar[bool] = False
    """Whether it must be told the coarse class of each class; it then has `of_tree`."""
    counts_classes: ClassVar[bool] = False
    """Whether it refuses examples of too many or too few classes, so that only the data tell whether it can be made."""

    min_per_client: int = 1
    """Also of classes that do not call this constructor."""

    def __init__(self, min_per_client: int = 1) -> None:
        self.min_per_client = at_least("min_per_client", min_per_client, 1)

    @final
    def __call__(
        self,
        strata: NDArray[np.integer] | None,
        num_clients: int,
        *,
        rng: np.random.Generator,
        num_classes: int | None = None,
        num_examples: int | None = None,
    ) -> list[Ints]:
        """Share the examples out.

        Args:
            strata: what the examples are told apart by, one number from 0 an example: the class where there are
                classes, an interval of the target where it is a number (`quantile_strata`). None, with
                `num_examples`, for a partition that does not look at them (`needs_classes` is false).
            num_clients: number of clients, at least 1.
            rng: source of all randomness; equal generators give equal partitions.
            num_classes: number of strata; by default as many as occur.
            num_examples: number of examples where there are no strata.

        Returns:
            For each client the numbers of its examples, ascending. Disjoint, and together all.

        Raises:
            PartitionError: bad input, too few examples, or the minimum cannot be kept; the text says what to change.
        """
        at_least("num_clients", num_clients, 1)
        strata, num_strata = self._strata(strata, num_classes, num_examples)
        self.check_size(len(strata), num_clients)
        if strata.min() < 0 or strata.max() >= num_strata:
            raise PartitionError(f"labels must lie in 0..{num_strata - 1}, got {strata.min()}..{strata.max()}")
        owners = self._owners(self.assign(strata, num_clients, num_strata, rng), len(strata), num_clients)
        sizes = np.bincount(owners, minlength=num_clients)
        if sizes.min() < self.min_per_client:
            raise self._too_few(int(sizes.argmin()), int(sizes.min()), num_clients)
        return [part.astype(np.int64) for part in np.split(np.argsort(owners, kind="stable"), np.cumsum(sizes)[:-1])]

    def check_size(self, num_examples: int, num_clients: int) -> None:
        """Refuse what is impossible by number alone; a run asks this before it loads anything.

        Args:
            num_examples: number of examples.
            num_clients: number of clients.

        Raises:
            PartitionError: too few examples for so many clients.
        """
        if num_examples < num_clients * self.min_per_client:
            raise PartitionError(
                f"{self._name()}: {num_examples} examples are too few for {num_clients} clients with at least "
                f"{self.min_per_client} each; take fewer clients or more examples"
            )

    @abstractmethod
    def assign(self, strata: Ints, num_clients: int, num_strata: int, rng: np.random.Generator) -> Ints:
        """The client of each example.

        Args:
            strata: of each example, in 0..num_strata-1; all 0 where there are none.
            num_clients: number of clients.
            num_strata: number of strata.
            rng: source of all randomness.
        """

    def _strata(self, strata: Any, num_classes: int | None, num_examples: int | None) -> tuple[Ints, int]:
        """The strata as checked integers, and how many there are."""
        if strata is None:
            if self.needs_classes:
                raise PartitionError(
                    f"{self._name()} shares examples out by class, but these have none; take iid or quantity_skew, "
                    "or strata made of the targets' quantiles"
                )
            return np.zeros(at_least("num_examples", num_examples, 1), np.int64), 1
        strata = np.asarray(strata)
        if strata.ndim != 1 or not np.issubdtype(strata.dtype, np.integer):
            raise PartitionError(f"labels must be one integer per example, got {strata.dtype} {list(strata.shape)}")
        if num_examples is not None and num_examples != len(strata):
            raise PartitionError(f"num_examples is {num_examples}, but there are {len(strata)} labels")
        num_strata = int(strata.max(initial=0)) + 1 if num_classes is None else at_least("num_classes", num_classes, 1)
        return strata.astype(np.int64, copy=False), num_strata

    def _owners(self, assigned: Any, num_examples: int, num_clients: int) -> Ints:
        """What `assign` returned, a list or a tensor too, as one valid client an example."""
        expected = f"{self._name()}: assign must return one client in 0..{num_clients - 1} per example, got"
        try:
            owners = np.asarray(assigned)
        except (ValueError, TypeError):
            raise PartitionError(f"{expected} {type(assigned).__name__} of rows of different lengths") from None
        right = owners.shape == (num_examples,) and np.issubdtype(owners.dtype, np.integer)
        if not right or owners.min() < 0 or owners.max() >= num_clients:
            got = f"{owners.dtype} {list(owners.shape)}" + (f" in {owners.min()}..{owners.max()}" if right else "")
            raise PartitionError(f"{expected} {got}")
        return owners.astype(np.int64, copy=False)

    def _too_few(self, client: int, size: int, num_clients: int, tries: int = 1, advice: str = "") -> PartitionError:
        return PartitionError(
            f"{self._name()}: client {client} of {num_clients} gets {size} examples, fewer than min_per_client = "
            f"{self.min_per_client}"
            + (f", in the best of {tries} draws" if tries > 1 else "")
            + f"; take {advice}fewer clients"
            + (" or a smaller minimum" if self.min_per_client > 1 else " or more examples")
        )

    def _name(self) -> str:
        return self.name or type(self).__name__


def at_least(name: str, value: Any, least: int) -> int:
    """An option that is an integer from `least` on, or a PartitionError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise PartitionError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)
