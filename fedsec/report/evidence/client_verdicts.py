"""What became of each client's update in each round: counted, counted less, or left out, rightly or wrongly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UpdateVerdict", "VerdictMatrix", "verdict_matrix"]

MOST_CLIENTS = 40
_MOST_BYZANTINE = 15
MOST_ROUNDS = 120
_LITTLE = 0.5
"""Of an equal share; whose update counts less than this is told apart from whose counts in full."""


class UpdateVerdict(IntEnum):
    """What became of a client's update in a round."""

    ABSENT = 0
    COUNTED = 1
    COUNTED_LESS = 2
    LEFT_OUT = 3


@dataclass(frozen=True, eq=False)
class VerdictMatrix:
    """Verdicts of one cell over its rounds.

    Args:
        clients: the numbers of the rows' clients: those that ever attack first.
        rounds: the numbers of the columns' rounds.
        verdicts: what became of each update, `[clients, rounds]` of `UpdateVerdict`.
        byzantine: whether the client attacked in that round, `[clients, rounds]`.
        num_clients: how many clients took part in any round.
        num_rounds: how many rounds there were.
        suspects: whether the rule says whom it leaves out.
    """

    clients: tuple[int, ...]
    rounds: tuple[int, ...]
    verdicts: NDArray[np.int8]
    byzantine: NDArray[np.bool_]
    num_clients: int
    num_rounds: int
    suspects: bool

    @property
    def attackers(self) -> int:
        """How many rows are clients that attack in any round; they are the first."""
        return int(self.byzantine.any(axis=1).sum())

    def count(self, verdict: UpdateVerdict, *, byzantine: bool) -> int:
        """How many updates of attackers, or of honest clients, got a verdict."""
        return int(((self.verdicts == verdict) & (self.byzantine == byzantine)).sum())


def verdict_matrix(lines: Sequence[Mapping[str, Any]]) -> VerdictMatrix | None:
    """The verdicts of a cell's rounds; of very many clients and rounds the most telling.

    Shown are up to 40 clients: attackers, then those honest ones that were left out most, all of them by number; and
    every so many rounds, that there are no more than 120.

    Args:
        lines: the rounds, as `rounds.jsonl` has them.

    Returns:
        None where no client attacks in any round, or rounds do not say who took part.
    """
    lines = [line for line in lines if isinstance(line.get("clients"), list)]
    everybody = sorted({client for line in lines for client in line["clients"]})
    attackers = {client for line in lines for client in line.get("byzantine_in_round") or []}
    if not attackers:
        return None
    every = -(-len(lines) // MOST_ROUNDS)
    verdicts = np.zeros((len(everybody), len(lines)), dtype=np.int8)
    byzantine = np.zeros((len(everybody), len(lines)), dtype=np.bool_)
    row_of = {client: row for row, client in enumerate(everybody)}
    for column, line in enumerate(lines):
        for client, verdict in _verdicts(line).items():
            verdicts[row_of[client], column] = verdict
        byzantine[[row_of[client] for client in line.get("byzantine_in_round") or []], column] = True
    rows = _rows(everybody, attackers, (verdicts == UpdateVerdict.LEFT_OUT).sum(axis=1))
    columns = list(range(0, len(lines), every))
    places = np.ix_([row_of[client] for client in rows], columns)
    return VerdictMatrix(
        tuple(rows),
        tuple(int(line["round"]) for line in lines[::every]),
        verdicts[places],
        byzantine[places],
        len(everybody),
        len(lines),
        any(line.get("suspected") is not None for line in lines),
    )


def _verdicts(line: Mapping[str, Any]) -> dict[int, UpdateVerdict]:
    clients, shares = line["clients"], line.get("influence") or []
    out = {*(line.get("suspected") or []), *(line.get("rejected") or [])}
    verdicts = dict.fromkeys(clients, UpdateVerdict.COUNTED)
    if len(shares) == len(clients):
        small = _LITTLE / len(clients)
        verdicts |= {
            client: UpdateVerdict.COUNTED_LESS for client, share in zip(clients, shares, strict=True) if share < small
        }
    return verdicts | {client: UpdateVerdict.LEFT_OUT for client in clients if client in out}


def _rows(everybody: Sequence[int], attackers: set[int], times_out: NDArray[np.int64]) -> list[int]:
    """Clients in the order of their rows."""
    bad = [client for client in everybody if client in attackers]
    honest = [client for client in everybody if client not in attackers]
    if len(everybody) > MOST_CLIENTS:
        bad = bad[: max(_MOST_BYZANTINE, MOST_CLIENTS - len(honest))]
        often = dict(zip(everybody, times_out.tolist(), strict=True))
        honest = sorted(sorted(honest, key=lambda client: -often[client])[: MOST_CLIENTS - len(bad)])
    return [*bad, *honest]
