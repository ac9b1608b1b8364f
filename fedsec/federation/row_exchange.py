"""From a round's beginning to its verdict: clients train and send, attackers forge, the rule judges."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.defense import AggregatorTrial
from fedsec.engine.messages import LocalResult
from fedsec.federation.secure_sums.summed_rounds import judged_sums
from fedsec.federation.server_rules import Verdict

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation

__all__ = ["RowExchange", "RowsElsewhere", "WholeRows"]


class RowExchange(ABC):
    """Where a round's rows are, and how they come to the server's verdict."""

    def most_rows(self, clients: int) -> int:
        """How many rows of a round with so many clients are in memory here at a time."""
        return clients

    def note(self) -> str:
        """Where the rows of a round are, in words; empty for one matrix that needs no word."""
        return ""

    @abstractmethod
    def trained(self, clients: Sequence[int], round_number: int) -> LocalResult:
        """Let clients train.

        Args:
            clients: of the round, in the order of their rows.
            round_number: from 1.

        Returns:
            What it left; `updates` may be without columns where the rows lie elsewhere.
        """

    @abstractmethod
    def judged(
        self,
        trained: LocalResult,
        clients: Sequence[int],
        byzantine: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        drawn: Mapping[str, torch.Generator | None],
        round_number: int,
    ) -> Verdict:
        """What the server makes of what it receives.

        Args:
            trained: what training left.
            clients: in the order of the rows.
            byzantine: places of the Byzantine ones.
            coefficients: of the clients in the average.
            drawn: the random streams of the rules.
            round_number: from 1.

        Raises:
            AggregationError: the rule cannot work with what was received.
        """

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Let go of what it holds outside of this process; of nothing, where it holds nothing there."""


class RowsElsewhere(RowExchange):
    """Rows of which this process has some at most: it plays no rounds alone, and needs no room for them.

    Args:
        share: which part of a round's rows it has.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def most_rows(self, clients: int) -> int:
        return math.ceil(self.share * clients)

    def trained(self, clients: Sequence[int], round_number: int) -> LocalResult:
        raise RuntimeError("a process that has some rows of a round cannot play it")

    def judged(
        self,
        trained: LocalResult,
        clients: Sequence[int],
        byzantine: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        drawn: Mapping[str, torch.Generator | None],
        round_number: int,
    ) -> Verdict:
        raise RuntimeError("a process that has some rows of a round cannot judge them")


class WholeRows(RowExchange):
    """One matrix for all rows of a round, in this process.

    Args:
        federation: whose rounds they are.
    """

    def __init__(self, federation: "Federation") -> None:
        self.federation = federation

    def trained(self, clients: Sequence[int], round_number: int) -> LocalResult:
        federation = self.federation
        return federation.local_updates(federation.start(clients), clients, round_number)

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
        home = federation.algorithm.at_home(federation.algorithm_state)
        updates = federation.worker_momentum(shared_part(trained.updates, home), clients)
        # What clients add to their updates, such as noise, they would add to what they do not send as well.
        defended = shared_part(federation.client_defenses(updates, clients, round_number, federation.module), home)
        units = None if trained.units is None else trained.units[:, None]
        sent = {"update": defended if units is None else defended / units, **trained.further}

        def trial(vector: str, places: Sequence[int], generator: torch.Generator) -> AggregatorTrial | None:
            return federation.rules.trial(vector, generator, places=places, weights=coefficients, clients=clients)

        leverage = (federation.algorithm.in_round(round_number).server_lr * coefficients).tolist()
        received = federation.forgery(
            sent, clients, byzantine, federation.parameters, round_number, trial, leverage, units=units
        )
        received = {name: shared_part(rows, home) for name, rows in received.items()}
        received = dict(federation.algorithm.received(federation.algorithm_state, clients, received))
        if federation.secure_aggregation is not None:
            return judged_sums(federation, received, clients, byzantine, coefficients, drawn, round_number)
        if federation.sends_statistics:
            federation.received_statistics = trained.statistics
        moved = received["update"] if units is None else received["update"] * units
        for observer in (*federation.observers, *federation.row_observers):
            observer(round_number, clients, moved)
        federation.received_statistics = None
        return federation.rules(received, coefficients, drawn, round_number, clients)


def shared_part(
    rows: Float[Tensor, "clients parameters"], home: Int64[Tensor, "kept"] | None
) -> Float[Tensor, "clients parameters"]:
    """Rows with nothing in the columns that never leave a client; the very same rows where there are none.

    Args:
        rows: one a client; left unchanged.
        home: places of these columns.
    """
    return rows if home is None else rows.index_fill(1, home, 0)
