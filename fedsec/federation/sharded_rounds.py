"""Rounds whose rows are nowhere together: workers train some clients each, exchange columns, and judge those.

For models whose matrix [clients, parameters] does not fit one machine. Each of A workers trains a block of the round's
clients and keeps their rows; then every worker gets a block of columns of all rows. Attackers forge those columns, and
the server's rule judges them, where they lie. What passes through the server's own process are vectors of the model's
length, the clients' running statistics, and matrices [clients, clients].

**Numbers do not depend on the number of workers**, but for the rounding of sums over columns: clients train in the same
chunks as in one process, from the same random streams. A worker holds nothing that the next round needs, so that one
that is lost is replaced by a new one, which trains the same clients again, to the same bits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.defense import Aggregator, Pipeline, PreAggregator
from fedsec.defense.shards import ColumnShards, column_blocks
from fedsec.defense.updates import UpdateTransform
from fedsec.engine.messages import LocalResult, Start
from fedsec.errors import FedsecError, InputError
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.forgery import Forgery
from fedsec.federation.row_exchange import RowExchange
from fedsec.federation.server_rules import Verdict

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation

__all__ = [
    "LostRowsError",
    "RowsKept",
    "ShardWorkers",
    "ShardedRounds",
    "WorkOrder",
    "blocks_of_clients",
    "why_not_spread",
]

MOST_LOSSES = 5
"""Times in one round that workers may be lost before the round is."""
Result = TypeVar("Result")


class LostRowsError(FedsecError):
    """What a worker held of a round is gone, and perhaps the worker."""


@dataclass(frozen=True, eq=False)
class WorkOrder:
    """What a worker is told to train.

    Attributes:
        serial: of the order; the same one again is answered from what was done for it.
        round: 1 for the first.
        clients: their numbers, in the order of their rows.
        attackers: everybody who is Byzantine in this round, whether they are among these clients or not.
        start: what these clients start from.
        statistics: the global model's running statistics.
        at_once: how many clients train together, as in one process.
    """

    serial: int
    round: int
    clients: tuple[int, ...]
    attackers: frozenset[int]
    start: Start
    statistics: Float[Tensor, "statistics"]
    at_once: int


@dataclass(frozen=True, eq=False)
class RowsKept:
    """What a worker tells of the rows that it keeps.

    Attributes:
        statistics: the clients' running statistics.
        examples: how many gradients of examples each client computed.
        engine: how they were trained.
    """

    statistics: Float[Tensor, "clients statistics"]
    examples: Int64[np.ndarray, "clients"]
    engine: str


class ShardWorkers(ABC):
    """Several workers that built the same federation, each with data and model of its own.

    Attributes:
        count: how many they are.
    """

    count: int

    @abstractmethod
    def train(self, orders: Sequence[WorkOrder]) -> list[RowsKept]:
        """Let each worker carry out its order; one that is lost is replaced, and its successor does so.

        Args:
            orders: one for each worker.
        """

    @abstractmethod
    def exchange(self, blocks: Sequence[slice]) -> ColumnShards:
        """Let worker k gather the k-th block of columns of all rows, in the order of the workers.

        Args:
            blocks: of columns, at most as many as there are workers.

        Raises:
            LostRowsError: a worker is gone; `train` with the same orders brings its rows back.
        """

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Let go of the workers."""


class ShardedRounds(RowExchange):
    """Plays the middle of a federation's rounds on workers: training, the clients' defenses, attack and verdict.

    Args:
        federation: whose rounds they are.
        workers: that built the same one.
        alone: train no clients together, whatever the engine does.

    Raises:
        InputError: something of this federation needs whole rows, or remembers them.
    """

    def __init__(self, federation: "Federation", workers: ShardWorkers, *, alone: bool = False) -> None:
        problem = why_not_sharded(federation)
        if problem:
            raise InputError(f"clients of a round on several workers: {problem}")
        self.federation, self.workers, self.alone, self._serial = federation, workers, alone, 0

    def trained(self, clients: Sequence[int], round_number: int) -> LocalResult:
        federation = self.federation
        if federation.observers or federation.row_observers:
            raise InputError("clients of a round on several workers: an observer looks at whole rows; expected none")
        at_once = 1 if self.alone else federation.chunk_size(clients)
        self._serial += 1
        start, self._orders = federation.start(clients), list[WorkOrder]()
        for block in blocks_of_clients(len(clients), at_once, self.workers.count):
            order = WorkOrder(
                self._serial,
                round_number,
                tuple(clients[place] for place in block),
                frozenset(federation.attackers),
                start.rows(block),
                federation.statistics,
                at_once,
            )
            self._orders.append(order)
        reports = self.workers.train(self._orders)
        engines = sorted({part.engine for part in reports} - {""})
        federation.trainer.used = f"{' and '.join(engines)}, on {self.workers.count} workers"
        return LocalResult(
            federation.parameters.new_empty(len(clients), 0),
            torch.cat([part.statistics.to(start.statistics) for part in reports]),
            np.concatenate([part.examples for part in reports]),
        )

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
        blocks = column_blocks(federation.parameters.numel(), self.workers.count)

        def judged() -> Verdict:
            sent = self.workers.exchange(blocks)
            received = federation.forgery.on_shards(
                sent, clients, byzantine, federation.parameters, round_number, leverage
            )
            anew = federation.rules.generators(round_number)  # a loss may have come when some of it was drawn
            return federation.rules({"update": received}, coefficients, anew, round_number, clients)

        verdict = self._in_spite_of_losses(judged)
        like = federation.parameters
        aggregates = {
            name: replace(aggregate, vector=aggregate.vector.to(like.device))
            for name, aggregate in verdict.aggregates.items()
        }
        return replace(verdict, aggregates=aggregates)

    def close(self) -> None:
        self.workers.close()

    def _in_spite_of_losses(self, judged: Callable[[], Result]) -> Result:
        for _ in range(MOST_LOSSES):
            with suppress(LostRowsError):
                return judged()
            # Not while the error is handled, whose frames hold what was lost. Workers that are left have their rows,
            # and answer at once.
            self.workers.train(self._orders)
        return judged()


def sent_by(federation: "Federation", order: WorkOrder) -> tuple[Float[Tensor, "clients parameters"], RowsKept]:
    """What the clients of an order send, and what is told of it: a worker's part of a round.

    Args:
        federation: the worker's own.
        order: what to do.
    """
    device = federation.data.device
    federation.receive(order.start.parameters.to(device), order.statistics.to(device))
    federation.data.poison_only(order.attackers)
    federation.trainer.at_once = order.at_once
    start = Start(federation.parameters, order.start.statistics.to(device))
    trained = federation.local_updates(start, order.clients, order.round)
    rows = federation.client_defenses(trained.updates, order.clients, order.round, federation.module)
    return rows, RowsKept(trained.statistics, trained.examples, federation.engine)


def blocks_of_clients(count: int, at_once: int, workers: int) -> list[range]:
    """Consecutive places in a round for each worker, about as many each; those that train together stay together.

    Args:
        count: clients of the round.
        at_once: how many train together.
        workers: some may get nothing.
    """
    chunks = -(-count // at_once)
    ends = [min(count, chunks * (worker + 1) // workers * at_once) for worker in range(workers)]
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def why_not_sharded(federation: "Federation") -> str:
    """What of a federation needs whole rows, or remembers rows, in words; empty if nothing does."""
    transforms = federation.client_defenses.transforms
    return why_not_spread(federation.algorithm, transforms, federation.aggregator, federation.forgery)


def why_not_spread(
    algorithm: UpdateAlgorithm,
    transforms: Sequence[UpdateTransform],
    rule: Aggregator,
    forgery: Forgery,
) -> str:
    """The same of a federation's parts.

    Args:
        algorithm: of the clients and the server.
        transforms: the clients' defenses.
        rule: of the server.
        forgery: of the attackers.
    """
    name = type(algorithm).__name__
    if algorithm.chained:
        return f"clients of {name} train one after another; expected an algorithm whose clients do not wait for others"
    if algorithm.sends != ("update",) or algorithm.broadcasts != ("parameters",) or not algorithm.forgets_rows:
        return f"{name} remembers vectors of its clients; expected an algorithm that remembers the global model alone"
    if algorithm.momentum:
        return "worker_momentum remembers a vector of every client; expected none"
    remembering = [type(part).__name__ for part in transforms if part.error_feedback]
    if remembering:
        return f"{remembering[0]} with error feedback remembers a vector of every client; expected no feedback"
    whole = _whole_row_parts(rule)
    if whole:
        return f"{whole} looks at whole rows, or remembers them; expected rules that any columns do for"
    attack = forgery.whole_rows
    if attack:
        return f"{attack} looks at whole updates; expected an attack on data, or one that any columns do for"
    return ""


def _whole_row_parts(rule: Aggregator) -> str:
    """The stage of a rule that columns do not do for; nothing where they do."""
    stages: list[Aggregator | PreAggregator] = [rule]
    if isinstance(rule, Pipeline):
        stages = [*rule.pre_aggregators, rule.rule]
    return next((type(stage).__name__ for stage in stages if not stage.by_columns), "")
