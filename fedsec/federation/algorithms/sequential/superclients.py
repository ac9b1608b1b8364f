"""Which clients train one after another, in which order, and who of them takes part."""

from fedsec.seeds import Streams


class Superclients:
    """Groups of clients, drawn once for a run; whom they consist of depends on nothing that is trained.

    Args:
        num_clients: of the federation.
        size: clients of a superclient.
        cohort: clients of a round.
        streams: the experiment's; groups, orders and draws have streams of their own.
    """

    def __init__(self, num_clients: int, size: int, cohort: int, streams: Streams) -> None:
        self.size, self.count, self._streams = size, cohort // size, streams
        drawn = streams.numpy("fedseq", "superclients").permutation(num_clients).tolist()
        self.members = [tuple(sorted(drawn[first : first + size])) for first in range(0, num_clients, size)]
        self._number = {client: number for number, members in enumerate(self.members) for client in members}

    def of(self, client: int) -> tuple[int, ...]:
        """The members of a client's superclient, itself included, in ascending order."""
        return self.members[self._number[client]]

    def chain(self, client: int, round_number: int) -> list[int]:
        """The members of a client's superclient in the order in which they train in a round, drawn anew in each."""
        number = self._number[client]
        order = self._streams.numpy("fedseq", "order", round_number, number).permutation(self.size)
        return [self.members[number][place] for place in order]

    def last(self, round_number: int) -> list[int]:
        """Of each superclient that takes part in a round, the client that trains last, in ascending order."""
        numbers = list(range(len(self.members)))
        if self.count < len(self.members):
            rng = self._streams.numpy("fedseq", "sampling", round_number)
            numbers = rng.choice(len(self.members), self.count, replace=False).tolist()
        return sorted(self.chain(self.members[number][0], round_number)[-1] for number in numbers)
