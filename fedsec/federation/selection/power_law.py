"""A few clients take part again and again, and most of them seldom."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fedsec.errors import InputError
from fedsec.federation.selection.selection import Electorate, Losses, Selection, in_order

Place = Literal["anywhere", "first", "last"]


@dataclass(frozen=True)
class PowerLaw(Selection):
    """Clients stand in an order that is drawn once; the k-th is drawn with weight k^-exponent, without replacement.

    Weights are drawn by one after another (Plackett-Luce): the exponential of a Gumbel variable and the logarithm of a
    weight order clients as such draws do.

    Args:
        exponent: 0 for equal chances; at 1 the first of 100 clients is drawn a hundred times as often as the last, were
            they alone.
        attackers: where the Byzantine clients stand in the order: `anywhere`, as chance has it; `first`, as those who
            take care to be there whenever somebody is asked; `last`.

    Raises:
        InputError: a negative exponent, or a place that is none.
    """

    exponent: float = 1.0
    attackers: Place = "anywhere"

    def __post_init__(self) -> None:
        if not 0 <= self.exponent < float("inf"):
            raise InputError(f"power_law: exponent must be at least 0 and finite, got {self.exponent}")
        if self.attackers not in get_args(Place):
            raise InputError(
                f"power_law: attackers must be one of {', '.join(get_args(Place))}, got {self.attackers!r}"
            )

    def check(self, num_clients: int, cohort: int) -> None:
        """Any federation will do."""

    def clients(self, electorate: Electorate, round_number: int, losses: Losses) -> list[int]:
        everybody = frozenset(range(electorate.num_clients))
        first = {"first": (electorate.attackers,), "last": (everybody - electorate.attackers,)}
        order = in_order(electorate, *first.get(self.attackers, ()))
        weights = -self.exponent * np.log(np.arange(1, len(order) + 1))
        chances = electorate.streams.numpy("selection", "round", round_number).gumbel(size=len(order)) + weights
        return sorted(order[np.argsort(-chances, kind="stable")[: electorate.cohort]].tolist())
