"""Clients too slow for all of a round's local steps.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020,
arXiv:1812.06127, section 5.2. There a straggler does a random number of *epochs*; here of steps, so that rounds of a
single epoch have stragglers too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedsec.errors import InputError
from fedsec.seeds import Streams


@dataclass(frozen=True)
class Stragglers:
    """Which clients of a round are slow, and what the server does about them.

    Args:
        fraction: their share of a round's clients, rounded down to whole clients; other ones each round.
        handling: `drop`: the server does not wait for them (FedAvg); `partial`: each does between one and all but one
            of its local steps, and the server takes what it has by then (FedProx).

    Raises:
        InputError: the fraction lies outside [0, 1), or the handling is unknown.
    """

    fraction: float
    handling: Literal["drop", "partial"]

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise InputError(f"stragglers: fraction must lie in [0, 1), got {self.fraction}")
        if self.handling not in ("drop", "partial"):
            raise InputError(f"stragglers: handling must be drop or partial, got {self.handling!r}")

    def count(self, clients: int) -> int:
        """How many of so many clients are stragglers."""
        return int(self.fraction * clients + 1e-9)

    def among(self, clients: Sequence[int], round_number: int, streams: Streams) -> set[int]:
        """The stragglers of a round."""
        count = self.count(len(clients))
        order = streams.numpy("stragglers", round_number).permutation(len(clients))
        return {clients[place] for place in order[:count].tolist()}

    def steps(self, client: int, steps: int, round_number: int, streams: Streams) -> int:
        """How many of its local steps a straggler gets done; one if there is but one."""
        rng = streams.numpy("stragglers", round_number, "client", client)
        return int(rng.integers(1, steps)) if steps > 1 else 1
