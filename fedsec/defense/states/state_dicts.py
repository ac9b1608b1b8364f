"""One round of somebody else's federation, as state dicts, through any of fedsec's rules.

    new, verdict = aggregate_state_dicts(received, MultiKrum(num_byzantine=2), reference=global_state)
    model.load_state_dict(new)

Rules see what each client *moved* (its parameters minus the reference, the model that was sent), never absolute
weights: distances between those drown in what all clients have in common. `fedsec.threat.StateLayout` says what of a
state dict is a parameter.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.defense.aggregation import Aggregator, Weights
from fedsec.defense.cohort import Aggregate
from fedsec.defense.states.received import ReceivedStates
from fedsec.defense.states.rules import RuleLike, as_rule
from fedsec.defense.states.statistics import (
    CounterChoice,
    StatisticsChoice,
    accepted_clients,
    by_rule,
    check_choices,
    combined_counters,
    combined_statistics,
)
from fedsec.errors import AggregationError, InputError
from fedsec.threat.rows import as_tensor
from fedsec.threat.state_entries import State, listed, no_state
from fedsec.threat.state_layout import StateLayout

__all__ = ["StateAggregate", "aggregate_state_dicts"]


@dataclass(frozen=True, eq=False)
class StateAggregate:
    """A round's new state dict and the verdict on every client; unpacks into `state_dict, aggregate`.

    Attributes:
        state_dict: like the reference; owns its memory.
        aggregate: of the parameters: the vector that was added, influences, places of rejected and suspected clients.
        clients: numbers of the clients, in the order of the places.
        statistics: which choice `auto` came to.
        remarks: what a reader should know of the round, one line each: whose state dict was not finite, and where.
    """

    state_dict: dict[str, Any]
    aggregate: Aggregate
    clients: tuple[int, ...]
    statistics: StatisticsChoice
    remarks: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.state_dict, self.aggregate))

    @property
    def rejected(self) -> tuple[int, ...]:
        """Numbers of the clients whose state dicts could not be used."""
        return tuple(self.clients[place] for place in self.aggregate.rejected)

    @property
    def suspected(self) -> tuple[int, ...] | None:
        """Numbers of the clients that the rule takes for Byzantine; None of a rule that does not say."""
        suspected = self.aggregate.suspected
        return None if suspected is None else tuple(self.clients[place] for place in suspected)

    @property
    def influence(self) -> dict[int, float]:
        """Which part of the new parameters each client contributed, by its number."""
        return dict(zip(self.clients, self.aggregate.influence.tolist(), strict=True))


@torch.no_grad()
def aggregate_state_dicts(
    state_dicts: Iterable[State] | Mapping[int, State],
    rule: RuleLike,
    *,
    reference: State,
    weights: Weights | Mapping[int, float] = None,
    clients: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    server_update: Tensor | State | None = None,
    server_lr: float = 1.0,
    model: nn.Module | None = None,
    buffers: Collection[str] | None = None,
    statistics: StatisticsChoice = "auto",
    counters: CounterChoice = "reference",
    partial: bool = False,
    malformed: Literal["raise", "reject"] = "raise",
) -> StateAggregate:
    """The next global state dict: reference + server_lr * rule(state dicts - reference).

    Parameters are computed with in float32 (in float64 where any parameter is), and rounded once, to the reference's
    own dtypes. What no update moves comes back to the bit. A state dict with NaN, infinity or a negative variance
    anywhere is rejected as a whole; `remarks` name the client and the entry. Memory: a matrix [clients, parameters],
    beside the new state dict, three rows and what the rule needs.

    Args:
        state_dicts: what the clients sent, one a client: a list, or by the clients' numbers; tensors or arrays, of any
            floating dtypes and on any devices; left unchanged. A sequence may load each when it is asked.
        rule: a rule, a list of defenses in the order of a `Pipeline`, or the name of a rule without options. Rules that
            remember rounds are to be the same object in every round.
        reference: the state dict that the clients began with; left unchanged.
        weights: of the clients, such as their numbers of examples; equal if not given. Robust rules ignore them.
        clients: numbers of the clients, for rules that remember them; 0, 1, ... if not given.
        generator: for rules that draw random numbers; a new one for each round.
        server_update: for rules that trust data of the server's own: the state dict that training on them led to from
            the reference, or its update as a row.
        server_lr: how much of the aggregate is added.
        model: whose state dicts they are; tells buffers, frozen and tied parameters apart for certain. Left unchanged.
        buffers: names of statistics beside `running_mean` and `running_var`.
        statistics: how statistics are combined; see `StatisticsChoice`.
        counters: how counters go on; see `CounterChoice`.
        partial: whether clients send some entries only, all the same ones, as of adapters; the others stay.
        malformed: what happens where a client lacks entries, or has others or misshapen ones: `raise` an error that
            names them, or `reject` the client, which counts as Byzantine.

    Returns:
        The state dict and the verdicts; unpacks into both.

    Raises:
        InputError: the arguments are malformed, or the rule cannot work with so many clients.
        AggregationError: too few finite state dicts are left.
        DivergenceError: the reference or the result is no longer finite.
    """
    rule = as_rule(rule)
    choice = check_choices(rule, statistics, counters)
    if not (isinstance(server_lr, Real) and isfinite(server_lr) and server_lr > 0) or malformed not in (
        "raise",
        "reject",
    ):
        raise InputError(
            f"expected a positive server_lr and malformed to be raise or reject, got {server_lr!r} and {malformed!r}"
        )
    states, numbers, relative = _round(state_dicts, clients, weights)
    layout = StateLayout.of(reference, buffers=buffers, model=model)
    if partial:
        layout = layout.restricted(_common_names(states))
    elif malformed == "raise":
        _check_whole(states[0], layout, numbers[0], statistics=choice != "reference")
    received = ReceivedStates.of(
        states, layout, numbers, statistics=choice != "reference", counters=counters != "reference", malformed=malformed
    )
    moved = None
    if choice == "rule" and layout.statistics:
        received.statistics[received.broken()] = torch.nan
        moved = by_rule(rule, layout, received.statistics, relative, numbers, generator)
    aggregate, remarks = _aggregated(rule, received, layout, relative, generator, server_update)
    if choice in ("mean", "median"):
        moved = combined_statistics(choice, received.statistics, aggregate)
    accepted = accepted_clients(aggregate)
    if not accepted:
        remarks = (*remarks, "no client counted: statistics and counters stay the server's")
    counted = None
    if counters != "reference" and accepted:
        counted = combined_counters(counters, [received.counters[place] for place in accepted])
    row = layout.moved(received.start, server_lr * aggregate.vector)
    new = layout.state_dict(row, None if moved is None else received.statistics_after(moved), counted)
    return StateAggregate(new, aggregate, numbers, choice, remarks)


def _round(
    state_dicts: Any, clients: Sequence[int] | None, weights: Any
) -> tuple[Sequence[State], tuple[int, ...], Weights]:
    """The round's state dicts in order, with the numbers and the weights of their clients."""
    if isinstance(state_dicts, nn.Module) or not isinstance(state_dicts, Iterable):
        raise InputError(f"state_dicts: {no_state(state_dicts)}, one for each client")
    if isinstance(state_dicts, Mapping):
        if any(isinstance(values, Tensor | np.ndarray) for values in state_dicts.values()):
            raise InputError("state_dicts: expected a list of state dicts, one for each client, not a single one")
        if clients is not None:
            raise InputError("clients: expected none beside state dicts by the clients' numbers")
        clients, states = list(state_dicts), list(state_dicts.values())
    else:
        states = state_dicts if isinstance(state_dicts, Sequence) else list(state_dicts)  # type: ignore[assignment]
        clients = list(range(len(states))) if clients is None else list(clients)
    if not len(states):
        raise InputError("state_dicts: expected at least one, got none")
    if len(clients) != len(states) or len({*clients}) != len(states):
        raise InputError(f"clients: expected {len(states)} different numbers, one a state dict, got {clients}")
    if not all(isinstance(client, int | np.integer) for client in clients):
        raise InputError(f"clients: expected whole numbers, got {listed(map(str, clients))}")
    if isinstance(weights, Mapping):
        unweighted = [client for client in clients if client not in weights]
        if unweighted or len(weights) != len(clients):
            raise InputError(f"weights: expected one for each of the clients {clients}, got those of {list(weights)}")
        weights = [weights[client] for client in clients]
    return states, tuple(int(client) for client in clients), weights


def _common_names(states: Sequence[State]) -> Collection[str]:
    """The names that most clients send; any other set of names is malformed."""
    sets = [frozenset(state) for state in states if isinstance(state, Mapping)]
    if not sets:
        raise InputError(f"client 0: {no_state(states[0])}")
    return max(sets, key=sets.count)


def _check_whole(state: State, layout: StateLayout, client: int, *, statistics: bool) -> None:
    """Tell who sends a part of the model, as of adapters, how that is said."""
    if isinstance(state, Mapping) and state and all(name in layout.reference for name in state):
        needed = [*layout.shapes, *(layout.statistics if statistics else ())]
        missing = [name for name in needed if name not in state]
        if missing:
            raise InputError(
                f"client {client}: lacks {listed(missing)}; where all clients send the same part of the model, say "
                "partial=True"
            )


def _aggregated(
    rule: Aggregator,
    received: ReceivedStates,
    layout: StateLayout,
    weights: Weights,
    generator: torch.Generator | None,
    server_update: Tensor | State | None,
) -> tuple[Aggregate, tuple[str, ...]]:
    if isinstance(server_update, Mapping):
        trained = torch.empty_like(received.start)
        layout.write_update(trained, server_update, received.start, who="server_update")
        server_update = trained
    elif server_update is not None:
        server_update = as_tensor("server_update", server_update).to(received.start)
    try:
        aggregate = rule.aggregate(
            received.updates,
            weights,
            generator=generator,
            clients=received.clients,
            server_update=server_update,
            shapes=layout.shapes,
        )
    except AggregationError as error:
        remarks = received.remarks(received.broken())
        raise type(error)("; ".join([str(error), *remarks])) from error
    if not bool(aggregate.vector.isfinite().all()):
        raise AggregationError(f"{type(rule).__name__}: the aggregate holds NaN or infinity")
    return aggregate, (*received.remarks(aggregate.rejected), *received.notes)
