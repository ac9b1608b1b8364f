"""Clients that come and go: by a trace of when each was there, or as a simulated process."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Bool

from fedsec.errors import InputError
from fedsec.federation.selection.selection import Electorate, Losses, Selection
from fedsec.seeds import Streams

Presence = Literal["as_others", "always"]
_BLOCK = 4096
"""Rounds of the process that are drawn together."""


@dataclass(frozen=True)
class Availability(Selection):
    """A round's clients are drawn from those that are there; where they are too few, all of them take part.

    Without a trace each client is on or off, and changes from round to round with probabilities 1 / mean_on and
    1 / mean_off, whatever the others do; it begins in equilibrium, where mean_on / (mean_on + mean_off) of all are on.
    A round in which nobody is there leaves the model as it is.

    Args:
        trace: (client, from, until) for each time that a client is there, in rounds, the last one included; a client
            without any is never there. None for the process.
        mean_on: rounds for which a client stays, on average.
        mean_off: rounds for which it stays away.
        attackers: when the Byzantine clients are there: `as_others`, or `always`.

    Raises:
        InputError: means below one round, a time that ends before it begins, or a presence that is none.
    """

    trace: Sequence[tuple[int, int, int]] | None = None
    mean_on: float = 5.0
    mean_off: float = 5.0
    attackers: Presence = "as_others"

    fills_rounds: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, mean in (("mean_on", self.mean_on), ("mean_off", self.mean_off)):
            if not 1 <= mean < float("inf"):
                raise InputError(f"availability: {name} must be at least 1 round and finite, got {mean}")
        if self.attackers not in get_args(Presence):
            known = ", ".join(get_args(Presence))
            raise InputError(f"availability: attackers must be one of {known}, got {self.attackers!r}")
        for client, begin, until in self.trace or ():
            if client < 0 or not 1 <= begin <= until:
                raise InputError(
                    "availability: trace: expected a client's number and rounds 1 <= from <= until, got "
                    f"{client}, {begin} and {until}"
                )

    def check(self, num_clients: int, cohort: int) -> None:
        beyond = [client for client, _, _ in self.trace or () if client >= num_clients]
        if beyond:
            raise InputError(f"availability: trace: expected clients below {num_clients}, got {beyond[0]}")

    def clients(self, electorate: Electorate, round_number: int, losses: Losses) -> list[int]:
        there = self.present(electorate, round_number)
        if len(there) <= electorate.cohort:
            return there
        rng = electorate.streams.numpy("selection", "round", round_number)
        return sorted(rng.choice(there, electorate.cohort, replace=False).tolist())

    def present(self, electorate: Electorate, round_number: int) -> list[int]:
        """The clients that are there in a round, in ascending order."""
        if self.trace is not None:
            there = {client for client, begin, until in self.trace if begin <= round_number <= until}
        else:
            block, row = divmod(round_number - 1, _BLOCK)
            on = _process(electorate.streams, electorate.num_clients, self.mean_on, self.mean_off, block)[row]
            there = {*np.flatnonzero(on).tolist()}
        return sorted(there | electorate.attackers if self.attackers == "always" else there)


@lru_cache(maxsize=8)
def _process(
    streams: Streams, num_clients: int, mean_on: float, mean_off: float, block: int
) -> Bool[np.ndarray, "rounds all"]:
    """Who is on in the rounds of a block."""
    rng = streams.numpy("selection", "availability", block)
    if block:
        on = _process(streams, num_clients, mean_on, mean_off, block - 1)[-1]
    else:
        on = rng.random(num_clients) < mean_on / (mean_on + mean_off)
    rows = np.empty((_BLOCK, num_clients), dtype=bool)
    for row in range(_BLOCK):
        if block or row:
            on = on ^ (rng.random(num_clients) < np.where(on, 1 / mean_on, 1 / mean_off))
        rows[row] = on
    return rows
