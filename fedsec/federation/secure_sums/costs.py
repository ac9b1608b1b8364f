"""What a protocol costs: bytes and messages of each party, phase by phase."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

__all__ = ["KEY_BYTES", "SHARE_BYTES", "PhaseCost", "ProtocolCost", "vector_bytes"]

KEY_BYTES = 32
"""Of a public key; a_K = 256 bits in the table of Bonawitz et al."""
SHARE_BYTES = 32
"""Of an encrypted share of a secret; a_S = 256 bits there."""


def vector_bytes(numbers: int, bits: int) -> int:
    """Of a vector of ring elements, packed."""
    return -(-numbers * bits // 8)


@dataclass(eq=False)
class PhaseCost:
    """Bytes of one phase, in which each party waits for the others once.

    Args:
        name: of the phase.
        clients: how many there are.

    Attributes:
        sent: by each client.
        received: by each client.
        server_sent: by the server.
        server_received: by the server.
        messages: of all parties together, each counted where it is sent; what the server passes on is sent again.
    """

    name: str
    clients: int
    sent: Int64[np.ndarray, "clients"] = field(init=False)
    received: Int64[np.ndarray, "clients"] = field(init=False)
    server_sent: int = 0
    server_received: int = 0
    messages: int = 0

    def __post_init__(self) -> None:
        self.sent, self.received = np.zeros(self.clients, np.int64), np.zeros(self.clients, np.int64)

    def up(self, client: int, size: int) -> None:
        """A message from a client to the server."""
        self.sent[client] += size
        self.server_received += size
        self.messages += 1

    def down(self, client: int, size: int) -> None:
        """A message from the server to a client."""
        self.received[client] += size
        self.server_sent += size
        self.messages += 1

    def across(self, sender: int, receivers: Iterable[int], size: int) -> None:
        """Messages from a client to others, past the server."""
        for receiver in receivers:
            self.sent[sender] += size
            self.received[receiver] += size
            self.messages += 1


@dataclass(frozen=True, eq=False)
class ProtocolCost:
    """Of one run of a protocol.

    Args:
        phases: in their order; in each, every party waits for the others once.
    """

    phases: Sequence[PhaseCost]

    @property
    def rounds(self) -> int:
        """How often all wait for each other."""
        return len(self.phases)

    @property
    def sent(self) -> Int64[np.ndarray, "clients"]:
        """Bytes that each client sent."""
        total: Int64[np.ndarray, "clients"] = np.sum([phase.sent for phase in self.phases], axis=0)
        return total

    @property
    def received(self) -> Int64[np.ndarray, "clients"]:
        """Bytes that each client received."""
        total: Int64[np.ndarray, "clients"] = np.sum([phase.received for phase in self.phases], axis=0)
        return total

    @property
    def server_sent(self) -> int:
        """Bytes that the server sent."""
        return sum(phase.server_sent for phase in self.phases)

    @property
    def server_received(self) -> int:
        """Bytes that the server received."""
        return sum(phase.server_received for phase in self.phases)

    @property
    def messages(self) -> int:
        """Of all parties."""
        return sum(phase.messages for phase in self.phases)
