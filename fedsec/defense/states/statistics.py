"""What becomes of a round's normalization statistics and counters, which no rule on parameters has seen."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Aggregate
from fedsec.defense.pipeline import Pipeline
from fedsec.defense.private_aggregation import PrivateAggregator
from fedsec.errors import InputError
from fedsec.threat.state_layout import StateLayout

__all__ = [
    "CounterChoice",
    "StatisticsChoice",
    "accepted_clients",
    "by_rule",
    "check_choices",
    "combined_counters",
    "combined_statistics",
]

StatisticsChoice = Literal["auto", "mean", "median", "rule", "reference"]
"""How running statistics are combined:

mean: over the accepted clients, by the weights with which the rule counted them. Not robust by itself: whoever the rule
    accepts may claim any statistics.
median: coordinate by coordinate over the accepted clients.
rule: the rule itself once more, on the statistics alone; it may accept other clients there.
reference: the server's own stay; for clients that keep theirs (FedBN), and for servers that measure them anew.
auto: reference for rules that account for privacy, mean for rules that are weighted means (mean, rlr), else median.
"""
CounterChoice = Literal["reference", "median", "largest"]
"""How counters go on: as the server had them, or with the (lower) median or the largest of the accepted clients'."""


def check_choices(rule: Aggregator, statistics: StatisticsChoice, counters: CounterChoice) -> StatisticsChoice:
    """The choice of statistics that `auto` stands for, or the one that was made.

    Raises:
        InputError: an unknown choice, or one that does not go with the rule.
    """
    for name, choice, choices in (
        ("statistics", statistics, get_args(StatisticsChoice)),
        ("counters", counters, get_args(CounterChoice)),
    ):
        if choice not in choices:
            raise InputError(f"{name}: expected {', '.join(choices[:-1])} or {choices[-1]}, not {choice!r}")
    last = rule.rule if isinstance(rule, Pipeline) else rule
    if isinstance(last, PrivateAggregator):
        if statistics not in ("auto", "reference") or counters != "reference":
            raise InputError(
                f"{type(last).__name__}: accounts for the updates alone, and statistics or counters of clients would "
                "tell more of them; expected statistics='reference' and counters='reference'"
            )
        return "reference"
    if statistics == "rule" and rule.needs_server_update:
        raise InputError(
            f"{type(rule).__name__}: trusts an update of the server's own, which has no statistics; expected "
            "statistics mean, median or reference"
        )
    if statistics == "auto":
        return "mean" if type(last).uses_weights else "median"  # and not of a robust rule that was told to use them
    return statistics


def by_rule(
    rule: Aggregator,
    layout: StateLayout,
    block: Float64[Tensor, "clients statistics"],
    weights: Any,
    clients: Sequence[int],
    generator: torch.Generator | None,
) -> Float64[Tensor, "statistics"]:
    """What the rule itself makes of what the statistics moved by; to be asked before it sees the round.

    Raises:
        InputError: the rule remembers rounds, of parameters.
    """
    own = None
    if generator is not None and rule.draws:
        own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    again, name = deepcopy(rule), type(rule).__name__
    if not again.state():
        shapes = {name: tuple(shape) for name, shape in layout.statistics.items()}
        moved = again(block, weights, clients=clients, generator=own, shapes=shapes)
    if again.state():
        raise InputError(
            f"{name}: remembers rounds of parameters, and cannot be asked about statistics; expected statistics mean, "
            "median or reference"
        )
    return moved


def accepted_clients(aggregate: Aggregate) -> list[int]:
    """The places of the clients that went into an aggregate and that the rule does not suspect."""
    left_out = {*aggregate.rejected, *(aggregate.suspected or ())}
    counted = (aggregate.influence > 0).nonzero().flatten().tolist()
    return [place for place in counted if place not in left_out]


def combined_statistics(
    choice: StatisticsChoice, block: Float64[Tensor, "clients statistics"], aggregate: Aggregate
) -> Float64[Tensor, "statistics"]:
    """What the statistics of the accepted clients moved by, as one; zero where none was accepted.

    Args:
        choice: `mean` or `median`.
        block: what each client's moved by.
        aggregate: of their parameters.
    """
    accepted = accepted_clients(aggregate)
    if not accepted:
        return torch.zeros_like(block[0])
    rows = block[accepted]
    if choice == "median":
        middle = rows.sort(0).values
        return (middle[(len(rows) - 1) // 2] + middle[len(rows) // 2]) / 2
    weights = torch.ones(len(rows), dtype=torch.float64)
    if aggregate.weights is not None:
        weights = aggregate.weights.cpu()[accepted]
    return weights @ rows / weights.sum()


def combined_counters(choice: CounterChoice, counters: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """New values of counters, by name.

    Args:
        choice: `median` or `largest`.
        counters: of each accepted client; at least one.
    """
    result = {}
    for name in counters[0]:
        values = torch.stack([own[name] for own in counters])
        result[name] = values.amax(0) if choice == "largest" else values.median(0).values
    return result
