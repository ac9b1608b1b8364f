"""Who is whose neighbor in a federation without a server."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool

from fedsec.errors import InputError
from fedsec.seeds import Streams

Shape = Literal["ring", "grid", "complete", "erdos_renyi", "edges"]
Mixing = Literal["metropolis_hastings", "uniform", "given"]
MOST_DRAWS = 1000
"""How many Erdos-Renyi graphs are drawn until one is connected."""


@dataclass(frozen=True)
class Graph:
    """A graph of clients, and how they weigh each other.

    Args:
        name: `ring`; `grid`, a torus that is as square as the number of clients allows; `complete`; `erdos_renyi`, each
            pair of clients with probability `p`, drawn until the graph is connected; or `edges`, as they are listed.
        p: of `erdos_renyi`.
        edges: pairs of clients, of `edges`; in any order and direction.
        mixing: `metropolis_hastings`, 1 / (1 + the larger degree) for an edge; `uniform`, the same for a client and all
            its neighbors, where all have equally many; or `given`, as `weights` says.
        weights: the mixing matrix of `given`.

    Raises:
        InputError: options that do not go together.
    """

    name: Shape = "ring"
    p: float | None = None
    edges: Sequence[Sequence[int]] | None = None
    mixing: Mixing = "metropolis_hastings"
    weights: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(Shape):
            raise InputError(f"graph must be one of {', '.join(get_args(Shape))}, got {self.name!r}")
        if self.mixing not in get_args(Mixing):
            raise InputError(f"graph: mixing must be one of {', '.join(get_args(Mixing))}, got {self.mixing!r}")
        for owner, option in (("erdos_renyi", "p"), ("edges", "edges")):
            if (self.name == owner) != (getattr(self, option) is not None):
                raise InputError(f"graph: {owner} needs {option}, and only {owner} has it; got {self.name}")
        if (self.mixing == "given") != (self.weights is not None):
            raise InputError(f"graph: mixing given needs weights, and only that has them; got {self.mixing}")
        if self.p is not None and not 0 < self.p <= 1:
            raise InputError(f"graph: p must lie in (0, 1], got {self.p}")

    def adjacency(self, num_clients: int, streams: Streams) -> Bool[np.ndarray, "clients clients"]:
        """Which clients are neighbors: symmetric, nobody its own.

        Args:
            num_clients: of the federation.
            streams: the experiment's; the `graph` stream draws a random graph.

        Raises:
            InputError: there is no such graph of so many clients, or it is not connected.
        """
        if num_clients < 2:
            raise InputError(f"graph: a client alone has no neighbors; expected at least 2 clients, got {num_clients}")
        if self.name == "erdos_renyi":
            return self._drawn(num_clients, streams)
        adjacency = np.zeros((num_clients, num_clients), bool)
        for one, other in self._pairs(num_clients):
            adjacency[one, other] = adjacency[other, one] = one != other
        if not connected(adjacency):
            apart = sorted(set(range(num_clients)) - reached(adjacency))
            raise InputError(f"graph: no path leads from client 0 to {apart}; expected a connected graph")
        return adjacency

    def _pairs(self, clients: int) -> Iterator[tuple[int, int]]:
        if self.name == "ring":
            yield from ((client, (client + 1) % clients) for client in range(clients))
        elif self.name == "complete":
            yield from ((one, other) for one in range(clients) for other in range(one))
        elif self.name == "grid":
            rows, columns = sides(clients)
            for client in range(clients):
                row, column = divmod(client, columns)
                yield client, row * columns + (column + 1) % columns
                yield client, (row + 1) % rows * columns + column
        for edge in self.edges or ():
            one, other = edge
            if not (0 <= one < clients and 0 <= other < clients):
                raise InputError(f"graph: edge {list(edge)} names a client that is none of 0 to {clients - 1}")
            yield one, other

    def _drawn(self, clients: int, streams: Streams) -> Bool[np.ndarray, "clients clients"]:
        rng, p = streams.numpy("graph"), self.p or 0.0
        for _ in range(MOST_DRAWS):
            upper = np.triu(rng.random((clients, clients)) < p, 1)
            if connected(upper | upper.T):
                return upper | upper.T
        threshold = math.log(clients) / clients
        raise InputError(
            f"graph: none of {MOST_DRAWS} graphs of {clients} clients drawn with p = {p:g} was connected; expected a "
            f"larger p, such as {min(1.0, 2 * threshold):.2g}"
        )


def sides(clients: int) -> tuple[int, int]:
    """Rows and columns of the grid that is as square as possible.

    Raises:
        InputError: a prime number of clients makes one row only.
    """
    rows = max(side for side in range(1, math.isqrt(clients) + 1) if clients % side == 0)
    if rows == 1:
        raise InputError(
            f"graph: {clients} clients make no grid of at least two rows and columns; expected ring, or a number of "
            "clients with two factors"
        )
    return rows, clients // rows


def reached(adjacency: Bool[np.ndarray, "clients clients"]) -> set[int]:
    """The clients to which a path leads from client 0, itself included."""
    seen = np.zeros(len(adjacency), bool)
    seen[0] = True
    while True:
        more = seen | adjacency[seen].any(0)
        if (more == seen).all():
            return set(np.flatnonzero(seen).tolist())
        seen = more


def connected(adjacency: Bool[np.ndarray, "clients clients"]) -> bool:
    """Whether a path leads from each client to every other."""
    return len(reached(adjacency)) == len(adjacency)
