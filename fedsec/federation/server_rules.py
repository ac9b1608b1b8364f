"""The server's rule, once for each vector that clients send, and what it makes of a round."""

import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregate, Aggregator, AggregatorTrial, PrivateAggregator, RoundContext, RowStream
from fedsec.defense.shards import ColumnShards, lost_rows
from fedsec.errors import AggregationError, InputError
from fedsec.federation.broken_conditions import BrokenCondition, relaxed, withstands
from fedsec.federation.user_privacy import aggregated, tagged, untagged
from fedsec.seeds import Streams

_LISTED, _FIRST = 200, 10
"""How many clients a message lists, and how many of those that are more."""


@dataclass(frozen=True)
class Verdict:
    """What the server made of a round.

    Args:
        aggregates: of each vector; nothing where the round was skipped.
        withstands: how many Byzantine clients of so many the rule withstands; None where it cannot work with so many.
        broken: why the rule could not work with so few clients, where it could not.
        seconds: that aggregation took, influences and suspects included.
        lost: places of clients that dropped out of a protocol, so that nothing of them arrived.
    """

    aggregates: Mapping[str, Aggregate]
    withstands: int | None
    broken: str
    seconds: float
    lost: tuple[int, ...] = ()


class ServerRules:
    """What the server does with received rows; each vector has a rule of its own, so that memories do not mix.

    Args:
        aggregator: the rule.
        sends: names of the vectors that clients send, the update first.
        streams: the experiment's.
        shapes: of the parameters by name, in their order in a row.
        broken_condition: what happens in rounds with too few clients.

    Raises:
        InputError: a handling that is none.

    Attributes:
        server_update: what the server's own data make of the round's model, for rules that trust it.
        losses: of the round's model on each client's examples, for rules that ask.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        sends: Sequence[str],
        streams: Streams,
        shapes: Mapping[str, torch.Size],
        broken_condition: BrokenCondition = "stop",
    ) -> None:
        if broken_condition not in get_args(BrokenCondition):
            expected = ", ".join(get_args(BrokenCondition))
            raise InputError(f"broken_condition must be one of {expected}, got {broken_condition!r}")
        self.broken_condition = broken_condition
        self._rules = {name: aggregator if name == "update" else copy.deepcopy(aggregator) for name in sends}
        self._streams, self._shapes = streams, shapes
        self.server_update: Float[Tensor, "parameters"] | None = None
        self.losses: Float[Tensor, "clients"] | None = None

    @property
    def needs_server_update(self) -> bool:
        """Whether a rule trusts what the server makes of data of its own."""
        return any(rule.needs_server_update for rule in self._rules.values())

    @property
    def needs_losses(self) -> bool:
        """Whether a rule asks clients for their losses."""
        return any(rule.needs_losses for rule in self._rules.values())

    def generator(self, round_number: int, vector: str = "update") -> torch.Generator | None:
        """Of a rule that draws or hides clients; None for others."""
        rule = self._rules[vector]
        name = ("noise", "server", "round", round_number, *(() if vector == "update" else (vector,)))
        if isinstance(rule, PrivateAggregator):
            return self._streams.noise(*name, *rule.stream())
        return self._streams.torch(*name) if rule.draws else None

    def generators(self, round_number: int) -> dict[str, torch.Generator | None]:
        """Of all vectors; taken before clients train, since what a private rule adapts names its stream."""
        return {vector: self.generator(round_number, vector) for vector in self._rules}

    def trial(
        self,
        vector: str,
        generator: torch.Generator,
        *,
        places: Sequence[int],
        weights: Float[Tensor, "clients"],
        clients: Sequence[int],
    ) -> AggregatorTrial | None:
        """The rule of a vector, for an attacker to try out; None in a round that has no aggregate.

        Args:
            vector: its name.
            generator: the attacker's random stream.
            places: of the honest clients' and then of the Byzantine ones' rows in what the server receives.
            weights: of the clients.
            clients: of the round.
        """
        rule, context, broken = self._rules[vector], self._context(clients, None), self._broken(len(clients))
        if broken and self.broken_condition != "relax":
            return None
        with relaxed(rule, len(clients)) if broken else nullcontext():
            return AggregatorTrial(rule, generator, places=places, weights=weights, context=context)

    def __call__(
        self,
        received: Mapping[str, Float[Tensor, "clients parameters"] | ColumnShards | RowStream],
        weights: Float[Tensor, "clients"],
        generators: Mapping[str, torch.Generator | None],
        round_number: int,
        clients: Sequence[int],
        noun: str = "clients",
    ) -> Verdict:
        """What the rules make of each vector that the server received.

        Where nothing that it received is finite, there is no aggregate but NaN: the model diverges.

        Args:
            received: of each vector a row for each client, their columns in pieces, or rows that have passed by.
            weights: of the clients, for rules that use them.
            generators: from `generators`.
            round_number: from 1.
            clients: in the order of the rows.
            noun: what the rows are of, for messages.

        Raises:
            AggregationError: a rule cannot work with what the clients sent; names the round and the clients.
            InputError: fewer clients than the rule needs, where that stops the run.
        """
        begun, aggregates = time.perf_counter(), dict[str, Aggregate]()
        broken = self._broken(len(clients))
        for vector, rows in () if broken and self.broken_condition == "skip" else received.items():
            rule, context = self._rules[vector], self._context(clients, generators[vector])
            relax = bool(broken) and self.broken_condition == "relax"
            try:
                with relaxed(rule, len(clients)) if relax else nullcontext():
                    aggregates[vector] = aggregated(rule, rows, weights, context)
            except AggregationError as error:
                if _any_finite(rows):
                    raise AggregationError(f"round {round_number}, {_listed(clients, noun)}: {error}") from error
                nobody = torch.zeros(len(clients), dtype=torch.float64, device=weights.device)
                vanished = torch.full((sum(map(torch.Size.numel, self._shapes.values())),), torch.nan).to(weights)
                aggregates[vector] = Aggregate(vanished, nobody, tuple(range(len(clients))))
            except InputError as error:  # fewer clients than the rule needs, by sampling or for lack of budget
                raise InputError(f"round {round_number}, {_listed(clients, noun)}: {error}") from error
        if weights.is_cuda:
            torch.cuda.synchronize(weights.device)
        withstood = withstands(self._rules["update"], len(clients))
        return Verdict(aggregates, withstood, broken, time.perf_counter() - begun)

    def _broken(self, num_clients: int) -> str:
        """Why the rule cannot work with so few clients; nothing where it can."""
        try:
            self._rules["update"].max_rejected(num_clients)
        except InputError as error:
            return str(error)
        return ""

    def state(self) -> dict[str, Tensor]:
        """What the rules remember, by name."""
        states = (tagged(rule.state(), _tag(vector)) for vector, rule in self._rules.items())
        return {name: tensor.clone() for state in states for name, tensor in state.items()}

    def names(self, state: Mapping[str, Tensor]) -> set[str]:
        """Which names of a federation's state are the rules': what they remember has no shape before they began."""
        return {name for name in state if any(name.startswith(f"{_tag(vector)}.") for vector in self._rules)}

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over what `state` gave.

        Args:
            state: on any device; other names than the rules' may be among it.
            device: of the federation's tensors.

        Raises:
            InputError: it is not what a rule remembers.
        """
        for vector, rule in self._rules.items():
            memory = untagged(state, _tag(vector))
            rule.restore({name: tensor.to(device, copy=True) for name, tensor in memory.items()})

    def _context(self, clients: Sequence[int], generator: torch.Generator | None) -> RoundContext:
        """What rules may need to know of a round."""
        context: RoundContext = {"generator": generator, "clients": clients, "shapes": self._shapes}
        return {**context, "server_update": self.server_update, "losses": self.losses}


def _listed(clients: Sequence[int], noun: str) -> str:
    """Whose round it is, of many the first."""
    if len(clients) <= _LISTED:
        return f"{noun} {list(clients)}"
    return f"{len(clients):,} {noun}, {', '.join(map(str, clients[:_FIRST]))}, ..."


def _any_finite(rows: Tensor | ColumnShards | RowStream) -> bool:
    if isinstance(rows, RowStream):
        return not rows.nothing_passed
    if isinstance(rows, ColumnShards):
        return len(lost_rows(rows)) < rows.num_rows
    return bool(rows.isfinite().all(1).any())


def _tag(vector: str) -> str:
    """What names of a rule's state begin with in a checkpoint."""
    return "rule" if vector == "update" else f"rule of {vector}"
