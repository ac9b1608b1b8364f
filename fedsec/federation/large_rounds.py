"""Rounds of many clients in one process: rows pass the rule by, or lie on disk, where a matrix of them would be large.

**Numbers do not depend on it**, but for the rounding of sums: clients train in the same chunks, from the same random
streams. What passes by is added up in the order of the clients (of those that attack after the others), and columns are
judged one by one. So coordinate rules give the same bits from disk, and the mean gives the same bits of rows that pass
by, unless rows are rejected or forged, or have half a million columns or more.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import RowStream
from fedsec.defense.shards import DiskShards, RowFile
from fedsec.engine.memory import free_bytes
from fedsec.engine.messages import LocalResult
from fedsec.errors import InputError, size_of
from fedsec.federation.row_exchange import RowExchange, WholeRows
from fedsec.federation.server_rules import Verdict

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation

__all__ = ["LocalRows", "RowPlace"]

MANY_CLIENTS = 1000
"""From so many on rows pass by where they can: fewer keep the last digits that published numbers were made with."""
LARGE_MATRIX = 1 << 30
"""Bytes from which they do however few clients there are."""
PART_BYTES = 64 << 20
"""Of the rows of clients that train before their rows pass, about."""
_COPIES = 2
"""Of a matrix of rows in memory: what was sent, and what was received."""


_WORDS = {
    "memory": "updates lie in one matrix",
    "passing": "updates pass the rule by, and no matrix of them is made",
    "disk": "updates lie on disk",
}


@dataclass(frozen=True)
class RowPlace:
    """Where the rows of a round are.

    Attributes:
        where: one matrix in memory; passing by; a file.
        why: not otherwise, where that is to be expected; empty for nothing to say.
    """

    where: Literal["memory", "passing", "disk"] = "memory"
    why: str = ""


class LocalRows(RowExchange):
    """Rows in this process: where those of a round are is decided by how many they are, and by what looks at them.

    Args:
        federation: whose rounds they are.
        memory_gib: what a matrix of rows may take, copies included; by default what is free when the run begins.
        folder: of files for rows; None for the system's folder of temporary files.

    Raises:
        InputError: a limit that is none.
    """

    def __init__(self, federation: "Federation", memory_gib: float | None = None, folder: Path | None = None) -> None:
        if memory_gib is not None and not memory_gib > 0:
            raise InputError(f"memory_gib must be positive, got {memory_gib}")
        self.federation, self.memory_gib, self.folder = federation, memory_gib, folder
        free = free_bytes(federation.data.device)
        self._limit = free if memory_gib is None else int(memory_gib * 2**30)
        self._chosen: RowExchange = WholeRows(federation)

    def place(self) -> RowPlace:
        """Where the rows of a round with as many clients as usual are.

        Raises:
            InputError: they fit nowhere.
        """
        federation, rule = self.federation, self.federation.aggregator
        clients = federation.clients_per_round
        matrix = clients * federation.parameters.numel() * federation.parameters.element_size()
        fits = self._limit is None or _COPIES * matrix <= self._limit
        large = clients >= MANY_CLIENTS or matrix > LARGE_MATRIX
        if fits and not (large and rule.streams):
            return RowPlace()
        size = f"the rows of {clients:,} clients take {size_of(matrix)}"
        together = self._together()
        if rule.streams and not (together or federation.forgery.sees_others):
            return RowPlace("passing", size)
        if rule.streams:
            together = together or federation.forgery.sees_others
        elif not rule.by_columns:
            together = together or f"{type(rule).__name__} looks at whole rows, or remembers them"
        elif federation.forgery.whole_rows:
            together = together or f"{federation.forgery.whole_rows} looks at whole updates"
        elif federation.forgery.forges and federation.row_observers:
            together = together or "somebody observes rows that attackers forge"
        if not together:
            return RowPlace("disk", f"{size}, and twice that is more than {self._limit_words}")
        if fits or self.memory_gib is None:  # what does not fit is for the trainer to refuse
            return RowPlace("memory", f"{size}, and {together}")
        raise InputError(
            f"{size}, twice that is more than {self._limit_words}, and {together}; expected a larger memory_gib, fewer "
            "clients a round, or a rule and an attack that do not need all rows at once"
        )

    def note(self) -> str:
        place = self.place()
        return f"{_WORDS[place.where]}: {place.why}" if place.why else ""

    @property
    def _limit_words(self) -> str:
        if self.memory_gib is None:
            return f"the {size_of(self._limit or 0)} that are free"
        return f"memory_gib ({self.memory_gib:g} GiB)"

    def most_rows(self, clients: int) -> int:
        """How many rows of so many clients are in memory at a time."""
        return clients if self.place().where == "memory" else min(clients, self.part(clients, 1))

    def part(self, clients: int, at_once: int) -> int:
        """How many of a round's clients train before their rows pass: whole chunks, as many for each thread."""
        trainer = self.federation.trainer
        row = self.federation.parameters.numel() * self.federation.parameters.element_size()
        turn = at_once * trainer.threads
        return min(clients, max(1, PART_BYTES // (row * turn)) * turn)

    def trained(self, clients: Sequence[int], round_number: int) -> LocalResult:
        federation = self.federation
        if federation.secure_aggregation is not None and (federation.observers or federation.row_observers):
            raise InputError(
                "federation.secure_aggregation: somebody looks at single clients' updates (a recording, an audit), and "
                "the server sees sums only; expected no such observer, or no secure_aggregation"
            )
        where = self.place().where
        if where == "memory":
            self._chosen = WholeRows(self.federation)
        else:
            self._chosen = (_PassingRows if where == "passing" else _RowsOnDisk)(self)
        return self._chosen.trained(clients, round_number)

    def judged(
        self,
        trained: LocalResult,
        clients: Sequence[int],
        byzantine: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        drawn: Mapping[str, torch.Generator | None],
        round_number: int,
    ) -> Verdict:
        chosen, self._chosen = self._chosen, WholeRows(self.federation)
        return chosen.judged(trained, clients, byzantine, coefficients, drawn, round_number)

    def _together(self) -> str:
        """What else needs the rows in one matrix; nothing if nothing does."""
        federation = self.federation
        algorithm = federation.algorithm
        if federation.secure_aggregation is not None:
            return "secure aggregation sums groups of them"
        if not algorithm.forgets_rows:
            return f"{type(algorithm).__name__} looks at them once more"
        if algorithm.momentum:
            return "worker_momentum remembers one of every client"
        if algorithm.slow is not None and algorithm.slow.handling == "partial":
            return "stragglers are drawn among all clients of a round"
        if federation.observers:
            return "somebody observes all of them"
        return ""


class _RowsInParts(RowExchange):
    """Clients train some at a time, and their rows go where they belong.

    Args:
        rows: who decided so.
    """

    def __init__(self, rows: LocalRows) -> None:
        self.rows, self.federation = rows, rows.federation

    @abstractmethod
    def begin(self, clients: Sequence[int]) -> None:
        """Get ready for these clients' rows."""

    @abstractmethod
    def take(self, rows: Float[Tensor, "some parameters"], places: range, part: LocalResult) -> None:
        """Take what some clients sent.

        Args:
            rows: theirs.
            places: in the round.
            part: what their training left.
        """

    def trained(self, clients: Sequence[int], round_number: int) -> LocalResult:
        federation = self.federation
        at_once = federation.chunk_size(clients)
        size = self.rows.part(len(clients), at_once)
        self._clients, self._round = clients, round_number
        self.begin(clients)
        statistics, examples = [], []
        with self._cut(at_once):
            for start in range(0, len(clients), size):
                some = clients[start : start + size]
                part = federation.local_updates(federation.start(some), some, round_number)
                sent = federation.client_defenses(part.updates, some, round_number, federation.module)
                statistics.append(part.statistics)
                examples.append(part.examples)
                self.take(sent, range(start, start + len(some)), part)
        nothing = federation.parameters.new_empty(len(clients), 0)
        return LocalResult(nothing, torch.cat(statistics), np.concatenate(examples))

    def observe(self, rows: Float[Tensor, "some parameters"], places: Sequence[int], statistics: Tensor) -> None:
        """Show rows to those who look at them one by one, as the server receives them."""
        federation = self.federation
        federation.received_statistics = statistics if federation.sends_statistics else None
        for observer in federation.row_observers:
            observer(self._round, [self._clients[place] for place in places], rows)
        federation.received_statistics = None

    @contextmanager
    def _cut(self, at_once: int) -> Iterator[None]:
        trainer = self.federation.trainer
        trainer.at_once = at_once
        try:
            yield
        finally:
            trainer.at_once = None


class _PassingRows(_RowsInParts):
    """Rows of which the rule keeps a total; those of attackers wait until they are forged."""

    def begin(self, clients: Sequence[int]) -> None:
        federation = self.federation
        coefficients = federation.coefficients(clients)
        self._stream = RowStream(federation.aggregator, len(clients), federation.parameters, coefficients)
        forging = federation.forgery.forges
        self._attackers = {place for place, client in enumerate(clients) if forging and client in federation.attackers}
        self._own: list[Tensor] = []
        self._own_statistics: list[Tensor] = []

    def take(self, rows: Float[Tensor, "some parameters"], places: range, part: LocalResult) -> None:
        own = [row for row, place in enumerate(places) if place in self._attackers]
        honest = [row for row, place in enumerate(places) if place not in self._attackers]
        statistics = part.statistics
        if own:
            self._own.append(rows[own])
            self._own_statistics.append(statistics[own])
            rows, statistics = rows[honest], statistics[honest]
        passing = [places[row] for row in honest]
        self.observe(rows, passing, statistics)
        self._stream.add(rows, passing)

    def judged(
        self,
        trained: LocalResult,
        clients: Sequence[int],
        byzantine: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        drawn: Mapping[str, torch.Generator | None],
        round_number: int,
    ) -> Verdict:
        federation = self.federation
        leverage = (federation.algorithm.in_round(round_number).server_lr * coefficients).tolist()
        places = sorted(self._attackers)
        own = torch.cat(self._own) if self._own else federation.parameters.new_empty(0, federation.parameters.numel())
        forged = federation.forgery.of_own(own, clients, places, federation.parameters, round_number, leverage)
        if places:
            self.observe(forged, places, torch.cat(self._own_statistics))
            self._stream.add(forged, places)
        return federation.rules({"update": self._stream}, coefficients, drawn, round_number, clients)


class _RowsOnDisk(_RowsInParts):
    """Rows in a file, of which some columns are in memory at a time."""

    def begin(self, clients: Sequence[int]) -> None:
        like, limit = self.federation.parameters, self.rows._limit or LARGE_MATRIX
        block = max(1, limit // 8)  # beside its copy without lost rows, and what the rule makes of it
        self._file = RowFile(len(clients), like.numel(), like.dtype, folder=self.rows.folder, block_bytes=block)

    def take(self, rows: Float[Tensor, "some parameters"], places: range, part: LocalResult) -> None:
        self.observe(rows, places, part.statistics)
        self._file.write(rows, places)

    def judged(
        self,
        trained: LocalResult,
        clients: Sequence[int],
        byzantine: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        drawn: Mapping[str, torch.Generator | None],
        round_number: int,
    ) -> Verdict:
        federation = self.federation
        leverage = (federation.algorithm.in_round(round_number).server_lr * coefficients).tolist()
        shards, parameters = DiskShards(self._file), federation.parameters.cpu()
        try:
            received = federation.forgery.on_shards(shards, clients, byzantine, parameters, round_number, leverage)
            verdict = federation.rules({"update": received}, coefficients, drawn, round_number, clients)
        finally:
            self._file.close()
        device = federation.parameters.device
        aggregates = {
            name: replace(aggregate, vector=aggregate.vector.to(device))
            for name, aggregate in verdict.aggregates.items()
        }
        return replace(verdict, aggregates=aggregates)
