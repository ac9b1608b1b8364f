"""Exchanges of two neighbors at random times, and by how much a momentum mixes beside them.

Nabli, Belilovsky, Oyallon: A2CiD2: Accelerating Asynchronous Communication in Decentralized Deep Learning. NeurIPS
2023, arXiv:2306.08289. Rates of edges are those of the authors' code: a client is as often with each of its neighbors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from jaxtyping import Bool, Float64

from fedsec.errors import InputError
from fedsec.seeds import Streams

__all__ = ["Event", "Exchanges", "events_of", "momentum_of", "rates_of"]


@dataclass(frozen=True)
class Exchanges:
    """How often neighbors exchange, and how models are mixed.

    Args:
        rate: exchanges of a client in a round, on average; the training of a client takes one round, on average.
        eta: how fast the two models of each client mix, a round being the unit of time; None for the paper's, and 0
            for randomized gossip without momentum.

    Raises:
        InputError: numbers out of range.
    """

    rate: float = 1.0
    eta: float | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.rate) and self.rate > 0):
            raise InputError(f"pairwise: rate must be positive and finite, got {self.rate}")
        if self.eta is not None and not (isfinite(self.eta) and self.eta >= 0):
            raise InputError(f"pairwise: eta must be finite and not negative, got {self.eta}")


@dataclass(frozen=True, order=True)
class Event:
    """Something that happens at a time.

    Attributes:
        time: within the round, in [0, 1).
        one: the client that trains, or one of two that exchange.
        other: the other one; -1 for training.
        number: of the event among those of its client or edge in this round, from 0.
    """

    time: float
    one: int
    other: int
    number: int


def rates_of(adjacency: Bool[np.ndarray, "clients clients"], rate: float) -> Float64[np.ndarray, "clients clients"]:
    """How often each two clients exchange in a round, on average.

    Each client calls, half as often as it exchanges, a neighbor drawn uniformly; where all have equally many neighbors
    each of them exchanges `rate` times.
    """
    share = adjacency / np.maximum(adjacency.sum(1, keepdims=True), 1)
    return np.asarray(rate / 2 * (share + share.T), np.float64)


def momentum_of(rates: Float64[np.ndarray, "clients clients"]) -> tuple[float, float]:
    """The paper's eta and alpha~ (Proposition 3.6) for exchanges at these rates.

        eta = 1 / (2 sqrt(chi_1 chi_2)),  alpha~ = sqrt(chi_1 / chi_2) / 2

    chi_1 is one over the algebraic connectivity of the graph's Laplacian, chi_2 half the largest effective resistance
    of an edge.
    """
    laplacian = np.diag(rates.sum(1)) - rates
    chi_1 = 1 / float(np.linalg.eigvalsh(laplacian)[1])
    inverse = np.linalg.pinv(laplacian, hermitian=True)
    ones, others = np.nonzero(np.triu(rates))
    resistances = inverse[ones, ones] + inverse[others, others] - 2 * inverse[ones, others]
    chi_2 = float(resistances.max()) / 2
    return 0.5 / sqrt(chi_1 * chi_2), 0.5 * sqrt(chi_1 / chi_2)


def events_of(rates: Float64[np.ndarray, "clients clients"], round_number: int, streams: Streams) -> list[Event]:
    """What happens in a round, in its order: training of each client and exchanges on each edge, as Poisson processes.

    Args:
        rates: of exchanges.
        round_number: from 1.
        streams: the experiment's; training and exchanges have streams of their own, which nothing else changes.
    """
    training = streams.numpy("gossip", "training", "round", round_number)
    exchanging = streams.numpy("gossip", "exchanges", "round", round_number)

    def drawn() -> Iterator[Event]:
        for client in range(len(rates)):
            for number, time in enumerate(sorted(training.random(training.poisson(1.0)).tolist())):
                yield Event(time, client, -1, number)
        for one, other in zip(*np.nonzero(np.triu(rates)), strict=True):
            count = exchanging.poisson(rates[one, other])
            for number, time in enumerate(sorted(exchanging.random(count).tolist())):
                yield Event(time, int(one), int(other), number)

    return sorted(drawn())
