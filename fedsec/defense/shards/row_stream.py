"""Rows that pass a rule by, some at a time: what it makes of a round without a matrix of all clients' updates."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.cohort import Aggregate, RoundContext, Weights, check_bearable, check_context, relative_weights
from fedsec.errors import AggregationError, InputError
from fedsec.threat.rows import finite_rows

if TYPE_CHECKING:
    from fedsec.defense.aggregation import Aggregator

__all__ = ["RowStream", "RowTotal"]


class RowTotal(ABC):
    """What a rule that `streams` carries of one round from row to row."""

    @abstractmethod
    def add(self, rows: Float[Tensor, "some parameters"], weights: Sequence[float]) -> None:
        """Take in further rows; nothing of them may be kept but totals, and what is small.

        Args:
            rows: finite, of different clients; must not be written to.
            weights: of these clients; those of all clients of the round sum to one.
        """

    @abstractmethod
    def vector(self, weight: float, num_rejected: int, generator: torch.Generator | None) -> Float[Tensor, "columns"]:
        """The aggregated update, once all rows have passed.

        Args:
            weight: of the clients whose rows passed, of all clients'.
            num_rejected: how many rows the gate held back.
            generator: of rules that draw.
        """

    @abstractmethod
    def shares(self) -> Float64[Tensor, "rows"]:
        """Which part of the aggregate each row contributed, in the order in which they passed."""


@final
class RowStream:
    """One round's rows on their way through a rule, in any order, each once.

    The gate is the rule's own: rows that are not finite are rejected as they come. The numbers are those of the whole
    matrix where the rule says so (the mean: to the bit, if rows come in order, none is rejected and they have less than
    half a million columns), and otherwise equal but for the rounding of sums in another order.

    Args:
        rule: one that `streams`.
        num_rows: how many rows there will be; also an attribute.
        like: also an attribute: a vector with the length, dtype and device of a row.
        weights: relative weights of all clients, as for `Aggregator.__call__`.

    Raises:
        InputError: the rule needs all rows at once, or the arguments are malformed.
    """

    def __init__(
        self,
        rule: "Aggregator",
        num_rows: int,
        like: Float[Tensor, "columns"],
        weights: Weights = None,
    ) -> None:
        self._rule, self.num_rows, self.like, self._name = rule, num_rows, like, type(rule).__name__
        if not rule.streams:
            raise InputError(f"{self._name} looks at all rows at once; expected one matrix, not rows that pass by")
        relative = relative_weights(self._name, weights if rule.uses_weights else None, num_rows)
        total = sum(relative)
        self._weights = [weight / total for weight in relative]
        self._total = rule.row_total(like, self._weights)
        self._passed: list[int] = []
        self._rejected: list[int] = []

    def add(self, rows: Float[Tensor, "some parameters"], places: Sequence[int]) -> None:
        """Let further rows pass.

        Args:
            rows: left unchanged.
            places: the number of each row, in 0..num_rows-1.

        Raises:
            InputError: a number that is none, or was there before.
        """
        finite = finite_rows(rows)
        fine = [place for place, ok in zip(places, finite.tolist(), strict=True) if ok]
        self._rejected += [place for place, ok in zip(places, finite.tolist(), strict=True) if not ok]
        self._passed += fine
        if fine:
            passing = rows if len(fine) == len(rows) else rows[finite]
            self._total.add(passing, [self._weights[place] for place in fine])

    @property
    def nothing_passed(self) -> bool:
        """Whether no row so far was finite."""
        return not self._passed

    def aggregate(self, **context: Unpack[RoundContext]) -> Aggregate:
        """What the rule makes of the rows, as `Aggregator.aggregate` gives it.

        Args:
            context: as for `Aggregator.__call__`; of it the generator and the clients are looked at.

        Raises:
            InputError: not every row has passed once, or the arguments are malformed.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        generator, clients = context.get("generator"), context.get("clients")
        if self._rule.draws and generator is None:
            raise InputError(f"{self._name}: draws random numbers; expected a generator, a new one for each call")
        check_context(self._name, {"generator": generator, "clients": clients}, torch.empty(self.num_rows, 0))
        if sorted([*self._passed, *self._rejected]) != list(range(self.num_rows)):
            raise InputError(
                f"{self._name}: expected each of {self.num_rows} rows once, got "
                f"{len(self._passed) + len(self._rejected)}"
            )
        rejected = tuple(sorted(self._rejected))
        check_bearable(self._name, rejected, self.num_rows, self._rule.max_rejected(self.num_rows))
        counted = torch.tensor(self._weights, dtype=torch.float64)
        counted[list(rejected)] = 0
        weight = float(sum(self._weights[place] for place in sorted(self._passed))) if rejected else 1.0
        if weight <= 0:
            raise AggregationError(f"{self._name}: the finite rows have no weight; rows {list(rejected)} were rejected")
        vector = self._total.vector(weight, len(rejected), generator)
        influence = torch.zeros(self.num_rows, dtype=torch.float64, device=vector.device)
        influence[torch.tensor(self._passed, device=vector.device)] = self._total.shares().to(vector.device)
        return Aggregate(vector, influence, rejected, None, (counted / counted.sum()).to(vector.device))
