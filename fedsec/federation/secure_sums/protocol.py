"""What every protocol of secure aggregation is asked for: the sum of clients' vectors, and what it cost."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt64

from fedsec.errors import AggregationError
from fedsec.federation.secure_sums.costs import ProtocolCost
from fedsec.federation.secure_sums.dropouts import Absence

__all__ = ["AbortedError", "SecureSum", "SumProtocol"]


class AbortedError(AggregationError):
    """Too few clients were left to take the masks off: nobody learns the sum."""


@dataclass(frozen=True, eq=False)
class SecureSum:
    """What a protocol ended with.

    Args:
        total: the sum, in the ring.
        counted: places of the clients whose vectors are in it.
        cost: bytes and messages.
        uploads: what each of `counted` sent, masks and all, where the server receives one vector of each.
    """

    total: UInt64[np.ndarray, "numbers"]
    counted: tuple[int, ...]
    cost: ProtocolCost
    uploads: UInt64[np.ndarray, "counted numbers"] | None = field(default=None, repr=False)


class SumProtocol(ABC):
    """A protocol by which a server learns the sum of clients' vectors and nothing of a single one."""

    @property
    @abstractmethod
    def modulus(self) -> int:
        """Size of the ring that the vectors' numbers are elements of."""

    def needed(self, clients: int) -> int:
        """How many of so many clients must stay to the end at least; a sum of one hides nobody."""
        return 2

    @abstractmethod
    def run(
        self, vectors: UInt64[np.ndarray, "clients numbers"], absence: Absence, generator: np.random.BitGenerator
    ) -> SecureSum:
        """Play all phases with clients that may leave.

        Args:
            vectors: of the clients, elements of the ring.
            absence: who leaves when.
            generator: of all secrets and masks.

        Raises:
            AbortedError: too few are left.
        """
