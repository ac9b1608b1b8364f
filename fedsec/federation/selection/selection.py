"""How a round's clients are drawn: what a way of drawing is given, and what it says about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from fedsec.seeds import Streams

Losses = Callable[[Sequence[int]], Float64[np.ndarray, "candidates"]]
"""What clients state as the mean loss of the global model on their own examples, in their order."""


@dataclass(frozen=True, eq=False)
class Electorate:
    """Whom a round's clients are drawn from.

    Attributes:
        num_clients: of the federation.
        cohort: how many of them are to take part.
        streams: the experiment's; a way of drawing uses streams of its own, under `selection`.
        attackers: the Byzantine clients, in rounds in which they behave, too.
        sizes: examples of every client, as it claims; None where that is not known yet, which counts as equal sizes.
    """

    num_clients: int
    cohort: int
    streams: Streams
    attackers: frozenset[int] = frozenset()
    sizes: Float64[np.ndarray, "all"] | None = None


class Selection(ABC):
    """A way of drawing a round's clients, which need not be fair.

    It remembers nothing: who takes part in a round follows from the streams, and what clients state.

    Attributes:
        by_loss: whether clients are chosen by what they state of themselves. Who takes part then tells about data.
        fills_rounds: whether as many clients take part as are to.
    """

    by_loss: ClassVar[bool] = False
    fills_rounds: ClassVar[bool] = True

    @abstractmethod
    def check(self, num_clients: int, cohort: int) -> None:
        """Refuse a federation that it cannot draw from.

        Raises:
            InputError: numbers that contradict each other.
        """

    @abstractmethod
    def clients(self, electorate: Electorate, round_number: int, losses: Losses) -> list[int]:
        """The clients of a round, in ascending order.

        Args:
            electorate: whom to draw from.
            round_number: from 1.
            losses: asked for by those with `by_loss` alone.
        """

    def asked(self, electorate: Electorate, round_number: int) -> list[int]:
        """The clients that receive the model and state their loss before others are chosen; none but `by_loss`."""
        return []

    def most_byzantine(self, electorate: Electorate, round_number: int) -> int:
        """How many of a round's clients are attackers; at most so many, where they have a say in it."""
        return len(electorate.attackers.intersection(self.clients(electorate, round_number, nobody_states)))


def nobody_states(candidates: Sequence[int]) -> Float64[np.ndarray, "candidates"]:
    """The losses of clients that are not there to be asked."""
    raise RuntimeError("a way of drawing clients asked for losses, and does not say so: by_loss")


def in_order(electorate: Electorate, *first: frozenset[int]) -> Int64[np.ndarray, "all"]:
    """All clients in an order that is drawn once a federation.

    Args:
        electorate: of the federation.
        first: sets of clients that stand at the beginning, in their order among each other.
    """
    order = electorate.streams.numpy("selection", "order").permutation(electorate.num_clients)
    for clients in reversed(first):
        chosen = np.isin(order, sorted(clients))
        order = np.concatenate([order[chosen], order[~chosen]])
    return order


DRAWS = 200
"""Rounds over which the number of Byzantine clients is averaged where a defense is to be told one."""


def expected_byzantine(selection: Selection, num_clients: int, cohort: int, num_byzantine: int) -> int:
    """How many Byzantine clients a round has on average, rounded up, where a defense is to be told a number.

    Of clients that have a say in it, as many as could get themselves chosen. Averaged over rounds of seeds of their
    own, so that all cells that differ in their seed alone are told the same.

    Args:
        selection: how rounds are drawn.
        num_clients: of the federation.
        cohort: clients of a round.
        num_byzantine: of the federation.
    """
    total, electorate = 0, Electorate(num_clients, cohort, Streams(0))
    for number in range(1, DRAWS + 1):
        streams = Streams(number)
        attackers = frozenset(streams.numpy("attack", "clients").permutation(num_clients)[:num_byzantine].tolist())
        drawn = replace(electorate, streams=streams, attackers=attackers)
        total += selection.most_byzantine(drawn, number)
    return ceil(total / DRAWS - 1e-9)
