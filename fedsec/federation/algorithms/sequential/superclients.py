"""Which clients train one after another, in which order, and who of them takes part."""

import copy
from collections.abc import Sequence
from typing import Literal, Self

from fedsec.federation.threat import Threat
from fedsec.seeds import Streams

Position = Literal["drawn", "first", "last"]
"""Where Byzantine clients train in their chain: as everybody is drawn, before all honest members, or after them."""


class Superclients:
    """Groups of clients that are the same in all rounds; by default drawn, so that they depend on nothing trained.

    Args:
        num_clients: of the federation.
        size: clients of a superclient.
        cohort: clients of a round.
        streams: the experiment's; groups, orders and draws have streams of their own.
        threat: who is Byzantine in which round.
        attackers: where they stand.
    """

    def __init__(
        self,
        num_clients: int,
        size: int,
        cohort: int,
        streams: Streams,
        threat: Threat | None = None,
        attackers: Position = "drawn",
    ) -> None:
        self.size, self.count, self._streams = size, cohort // size, streams
        self._threat, self._attackers = threat or Threat(), attackers
        drawn = streams.numpy("fedseq", "superclients").permutation(num_clients).tolist()
        self._settle([tuple(sorted(drawn[first : first + size])) for first in range(0, num_clients, size)])

    def grouped(self, members: Sequence[tuple[int, ...]]) -> Self:
        """The same with other groups, each in ascending order."""
        other = copy.copy(self)
        other._settle(members)
        return other

    def _settle(self, members: Sequence[tuple[int, ...]]) -> None:
        self.members = list(members)
        self._number = {client: number for number, group in enumerate(self.members) for client in group}

    def of(self, client: int) -> tuple[int, ...]:
        """The members of a client's superclient, itself included, in ascending order."""
        return self.members[self._number[client]]

    def chain(self, client: int, round_number: int) -> list[int]:
        """The members of a client's superclient in the order in which they train in a round, drawn anew in each."""
        number = self._number[client]
        order = self._streams.numpy("fedseq", "order", round_number, number).permutation(self.size)
        members = [self.members[number][place] for place in order]
        if self._attackers == "drawn":
            return members
        byzantine = self._threat.in_round(round_number)
        return sorted(members, key=lambda member: (member in byzantine) == (self._attackers == "last"))

    def last(self, round_number: int) -> list[int]:
        """Of each superclient that takes part in a round, the client that trains last, in ascending order."""
        numbers = list(range(len(self.members)))
        if self.count < len(self.members):
            rng = self._streams.numpy("fedseq", "sampling", round_number)
            numbers = rng.choice(len(self.members), self.count, replace=False).tolist()
        return sorted(self.chain(self.members[number][0], round_number)[-1] for number in numbers)
