"""Interfaces of defenses: what is done with updates before they are applied.

A round is a matrix: every row of `updates: Float[Tensor, "clients parameters"]` is one client's
flattened update, and an `Aggregator` turns it into one vector. The base classes own the contract
(shapes, dtypes, finiteness, weights, how many rows may be lost); a subclass holds only its method.

**The gate.** A row with a NaN or an infinity is rejected before any rule sees it. It counts as a
Byzantine row that the rule no longer has to withstand, and it is reported.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Unpack, final, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.cohort import (
    Aggregate,
    Cohort,
    RoundContext,
    Weights,
    check_bearable,
    check_context,
    check_needs,
    relative_weights,
)
from fedsec.defense.gram_matrix import Gram
from fedsec.defense.shards import ColumnShards, LocalShards, lost_rows
from fedsec.defense.shards.row_stream import RowTotal
from fedsec.defense.swift_products import swift_products
from fedsec.errors import AggregationError, InputError
from fedsec.threat.rows import as_given, as_matrix, surely_finite
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["Aggregate", "Aggregator", "Cohort", "Weights"]


class Aggregator(Sealed, ABC):
    """Combines the updates of one round.

    A subclass fills in `max_rejected`, `combine` and `shares`; most do so through `CoordinateRule` or `GramRule`.

    Attributes:
        uses_weights: whether the clients' weights matter. Robust rules ignore them, because a
            Byzantine client states its own number of examples.
        needs_global_model: whether the rule evaluates the global model at the server. It then needs running statistics
            of batch normalization there, and cannot be combined with `bn: local`.
        draws: whether the rule draws random numbers. It then needs a generator at every call.
        needs_server_update: whether it trusts an update from the server's own data, which every call then gives.
        needs_losses: whether it asks each client for the global model's loss on its examples, which every call gives.
        needs_shapes: whether it treats parameters one by one, and needs their shapes at every call.
        detects: whether it says which clients it takes for Byzantine.
        single_clients: what it does with single clients, so that sums mean nothing to it; empty where it takes sums.
        shows_non_finite: whether NaN or infinity in any row makes a value of the result NaN, infinite or the largest of
            its dtype. The gate then looks at the rows only where the result has one, and saves a pass over the data.
        reads_products: whether it asks for inner products of the rows. A row that is not finite shows in its squared
            length, so that the gate works them out first, and looks at the rows only where that tells nothing.
        sees_mixtures: whether it takes rows from `Cohort.rows`, which mixes them chunk by chunk. Others are given a
            mixed copy as `Cohort.updates`, where there is a pre-aggregator.
        by_columns: whether, once `staged` knows the rows' inner products, any columns can be combined without looking
            at the others, and nothing is remembered: `on_shards` then takes rows in pieces.
        streams: whether each row can be forgotten when its part of a total is taken: `row_total` gives the total, and
            `RowStream` lets rows pass. Such a rule suspects nobody, and what it remembers its total takes note of.

    A class that replaces a method of a rule which says `by_columns` or `streams` says so itself, or it does not hold.
    """

    claims = ("by_columns", "streams")
    role: ClassVar[str] = "rule"
    """Where in a round its kind acts: the server, on all updates, last."""
    uses_weights: bool = False
    needs_global_model: bool = False
    draws: bool = False
    needs_server_update: bool = False
    needs_losses: bool = False
    needs_shapes: bool = False
    detects: bool = False
    single_clients: ClassVar[str] = ""
    shows_non_finite: ClassVar[bool] = False
    reads_products: bool = False
    sees_mixtures: ClassVar[bool] = False
    by_columns: bool = False
    streams: bool = False

    @overload
    def __call__(
        self, updates: Tensor | Sequence[Tensor], weights: Weights = None, **context: Unpack[RoundContext]
    ) -> Tensor: ...
    @overload
    def __call__(
        self, updates: np.ndarray | Sequence[np.ndarray], weights: Weights = None, **context: Unpack[RoundContext]
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self, updates: Sequence[Sequence[float]], weights: Weights = None, **context: Unpack[RoundContext]
    ) -> list[float]: ...
    @final
    def __call__(
        self,
        updates: Float[Tensor, "clients parameters"] | np.ndarray | Sequence[Any],
        weights: Weights = None,
        **context: Unpack[RoundContext],
    ) -> Float[Tensor, "parameters"] | np.ndarray | list[float]:
        """Aggregate without working out each client's influence.

        Args:
            updates: one row for each client, of any floating dtype, on any device; left unchanged. A matrix, a NumPy
                array, or a list of vectors: tensors, arrays or lists of numbers.
            weights: relative weights of the clients, not negative; equal if not given. Rows that are
                rejected lose their weight to the others. Ignored unless `uses_weights`.
            context: what some rules need beside the updates, see `RoundContext`: `generator`, `clients`,
                `server_update`, `shapes`, `losses`.

        Returns:
            The aggregated update, of the kind that was given, with the dtype and the device of `updates`.

        Raises:
            InputError: the arguments are malformed, or the rule cannot work with so many clients.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        matrix = as_matrix(type(self).__name__, updates)
        result: Tensor | np.ndarray | list[float] = as_given(updates)(self._aggregated(matrix, weights, context)[2])
        return result

    @final
    def aggregate(
        self,
        updates: Float[Tensor, "clients parameters"] | np.ndarray | Sequence[Any],
        weights: Weights = None,
        **context: Unpack[RoundContext],
    ) -> Aggregate:
        """Aggregate as `__call__` does, to the same numbers, and work out each client's influence.

        Args:
            updates: one row for each client, as for `__call__`.
            weights: relative weights of the clients, as for `__call__`.
            context: as for `__call__`.

        Returns:
            The vector, the influence and the weight of each client, as tensors, the rejected rows and, of rules that
            detect, the suspected ones.

        Raises:
            InputError: the arguments are malformed, or the rule cannot work with so many clients.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        matrix = as_matrix(type(self).__name__, updates)
        cohort, rejected, vector = self._aggregated(matrix, weights, context)
        with unmodified(f"{type(self).__name__}.shares", updates=cohort.updates):
            shares = self.shares(cohort).double()
        return self._verdict(cohort, rejected, vector, shares, weights, len(matrix))

    @final
    def on_shards(
        self,
        shards: Sequence[Float[Tensor, "clients columns"]],
        weights: Weights = None,
        **context: Unpack[RoundContext],
    ) -> list[Float[Tensor, "columns"]]:
        """Aggregate rows whose columns lie in several pieces, on several devices for instance.

        Inner products of the pieces add up, and each piece is combined where it lies. The result is that of the whole
        rows, but for rounding.

        Args:
            shards: the same rows' columns in order, a matrix each, of one dtype; left unchanged.
            weights: relative weights of the clients, as for `__call__`.
            context: as for `__call__`.

        Returns:
            The pieces of the aggregated update, each where its columns lie.

        Raises:
            InputError: the arguments are malformed, or the rule needs whole rows.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        pieces = LocalShards.checked(f"{type(self).__name__}.on_shards", shards)
        cohort, _, rows = self._over_shards(pieces, weights, context)
        return rows.map(partial(_combined, rule=self, cohort=cohort))

    @final
    def aggregate_shards(
        self, shards: ColumnShards, weights: Weights = None, **context: Unpack[RoundContext]
    ) -> Aggregate:
        """Aggregate as `on_shards` does, wherever the pieces are, and work out each client's influence.

        Args:
            shards: the rows; used up.
            weights: relative weights of the clients, as for `__call__`.
            context: as for `__call__`.

        Returns:
            As `aggregate` does; all on the CPU.

        Raises:
            InputError: the arguments are malformed, or the rule needs whole rows.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        num_rows = shards.num_rows
        cohort, rejected, rows = self._over_shards(shards, weights, context)
        gram = cohort.gram.known() if self.reads_products and cohort.gram else Gram.unknown(cohort.num_rows)
        shared = replace(cohort, gram=gram)
        vector = torch.cat([part.cpu() for part in rows.map(partial(_combined, rule=self, cohort=shared))])
        columns = zip(rows.map(partial(_shares, rule=self, cohort=shared)), rows.widths, strict=True)
        shares = torch.stack([part * width for part, width in columns]).sum(0) / sum(rows.widths)
        return self._verdict(cohort, rejected, vector, self.client_shares(shares, cohort), weights, num_rows)

    @abstractmethod
    def max_rejected(self, num_clients: int) -> int:
        """How many of `num_clients` rows the gate may hold back before the rule gives up.

        For a robust rule this is the number of Byzantine rows it withstands.

        Raises:
            InputError: the rule cannot work with so many clients at all.
        """

    def row_total(self, like: Float[Tensor, "parameters"], weights: Sequence[float]) -> RowTotal:
        """Of a rule that `streams`, a total of no rows yet: of such rows, and clients whose weights sum to one."""
        raise InputError(f"{type(self).__name__}: says that it streams; expected a row_total of its own")

    def staged(self, cohort: Cohort) -> Cohort:
        """What `combine` and `shares` are then given; called once, before both. For rules that go through stages."""
        return cohort

    @abstractmethod
    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        """The aggregated update of finite rows, with their dtype and on their device."""

    @abstractmethod
    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        """Which part of the aggregate each row contributed; not negative, summing to one, or to zero where none did."""

    def row_shares(self, cohort: Cohort) -> Float[Tensor, "rows"]:
        """Of any columns, which part of their aggregate each row that the rule sees contributed."""
        return self.shares(cohort).double()

    def client_shares(self, shares: Float[Tensor, "rows"], cohort: Cohort) -> Float[Tensor, "clients"]:
        """What `row_shares`, averaged over all columns, say of the clients whose rows were mixed."""
        return shares

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        """The rows of `cohort.updates` that the rule takes for Byzantine and leaves out; asked of rules that detect."""
        return ()

    def remember(self, cohort: Cohort, vector: Float[Tensor, "parameters"]) -> None:
        """Take note of a round, once its result is final: the place where a rule's state changes.

        Args:
            cohort: as it was combined.
            vector: the aggregated update.
        """

    def state(self) -> dict[str, Tensor]:
        """What the rule's next call depends on beside its arguments, by name; nothing for most rules."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            InputError: it is not what this rule remembers.
        """
        if state:
            raise InputError(f"{type(self).__name__} remembers nothing; expected no state, got {sorted(state)}")

    def _aggregated(
        self, updates: Tensor, weights: Weights, context: RoundContext
    ) -> tuple[Cohort, tuple[int, ...], Tensor]:
        """Check the arguments, hold back the rows that are not finite, combine the others, and remember."""
        cohort, rejected, vector = self._combined(updates, weights, context)
        with unmodified(f"{type(self).__name__}.remember", updates=cohort.updates, vector=vector):
            self.remember(cohort, vector)
        return cohort, rejected, vector

    def _combined(
        self, updates: Tensor, weights: Weights, context: RoundContext
    ) -> tuple[Cohort, tuple[int, ...], Tensor]:
        relative, updates = self._checked_weights(updates, weights, context), updates.detach()
        if self.shows_non_finite:
            cohort = self._cohort(updates, relative, (), context)
            vector = self._combine(cohort)
            if surely_finite(vector):
                return cohort, (), vector
        products = swift_products(updates) if self.reads_products else None
        rejected = lost_rows(LocalShards([updates])) if products is None else ()
        check_bearable(type(self).__name__, rejected, len(updates), self.max_rejected(len(updates)))
        cohort = self._cohort(updates, relative, rejected, context, products)
        return cohort, rejected, self._combine(cohort)

    def _over_shards(
        self, shards: ColumnShards, weights: Weights, context: RoundContext
    ) -> tuple[Cohort, tuple[int, ...], ColumnShards]:
        """The cohort, of which no rows are known, the rows that are lost in any piece, and the pieces of the others."""
        rule = type(self).__name__
        if not self.by_columns:
            raise InputError(f"{rule} looks at whole rows, or remembers them; expected one matrix, not shards")
        context = {"generator": context.get("generator"), "clients": context.get("clients")}
        nothing = torch.empty(shards.num_rows, 0, dtype=shards.dtype)
        relative = self._checked_weights(nothing, weights, context)
        rejected = lost_rows(shards)
        check_bearable(rule, rejected, shards.num_rows, self.max_rejected(shards.num_rows))
        finite = shards.without(rejected)
        return self._cohort(nothing, relative, rejected, context, shards=finite), rejected, finite

    def _verdict(
        self,
        cohort: Cohort,
        rejected: tuple[int, ...],
        vector: Tensor,
        shares: Tensor,
        weights: Weights,
        num_clients: int,
    ) -> Aggregate:
        """What was made of so many clients' rows, their influence, and whom the rule suspects."""
        lost = {*rejected}
        finite = [row for row in range(num_clients) if row not in lost]
        influence = torch.zeros(num_clients, dtype=torch.float64, device=vector.device)
        influence[finite] = shares.to(vector.device)
        suspected = None
        if self.detects:
            suspected = tuple(sorted({*rejected, *(finite[row] for row in self.suspects(cohort))}))
        counted = relative_weights(type(self).__name__, weights if self.uses_weights else None, num_clients)
        counted = [0.0 if row in lost else weight for row, weight in enumerate(counted)]
        relative = torch.tensor(counted, dtype=torch.float64, device=vector.device) / sum(counted)
        return Aggregate(vector, influence, rejected, suspected, relative)

    def _checked_weights(self, updates: Tensor, weights: Weights, context: RoundContext) -> list[float]:
        """The clients' relative weights, once all that was said of a round goes with its updates and with the rule."""
        rule, num_clients = type(self).__name__, len(updates)
        check_needs(self, context)
        check_context(rule, context, updates)
        self.max_rejected(num_clients)
        return relative_weights(rule, weights, num_clients)

    def _cohort(
        self,
        updates: Tensor,
        weights: list[float],
        rejected: tuple[int, ...],
        context: RoundContext,
        products: Tensor | None = None,
        shards: ColumnShards | None = None,
    ) -> Cohort:
        """The rows that passed the gate, staged; of rows in pieces none, but the inner products of all."""
        rule = type(self).__name__
        numbers = context.get("clients")
        clients = list(range(len(updates)) if numbers is None else numbers)
        before, losses = sum(weights), context.get("losses")
        if rejected:
            finite = sorted({*range(len(updates))} - {*rejected})
            updates, weights = updates[finite], [weights[row] for row in finite]
            clients = [clients[row] for row in finite]
            losses = None if losses is None else losses[finite]
        lost = 1 - sum(weights) / before
        if not self.uses_weights:
            weights, lost = [1.0] * len(updates), len(rejected) / (len(updates) + len(rejected))
        if (total := sum(weights)) <= 0:
            raise AggregationError(f"{rule}: the finite rows have no weight; rows {list(rejected)} were rejected")
        shapes, server = context.get("shapes"), context.get("server_update")
        parts = tuple(weight / total for weight in weights)
        cohort = Cohort(
            updates,
            parts,
            len(rejected),
            context.get("generator") if self.draws else None,
            gram=None if shards is None else Gram.of_shards(shards, parts),
            products=products,
            clients=tuple(clients),
            server_update=None if server is None else server.detach(),
            shapes=None if shapes is None else {name: torch.Size(shape) for name, shape in shapes.items()},
            losses=losses,
            rejected_weight=lost,
        )
        with unmodified(f"{rule}.staged", updates=updates):
            return self.staged(cohort)

    def _combine(self, cohort: Cohort) -> Tensor:
        rule = type(self).__name__
        with unmodified(f"{rule}.combine", updates=cohort.updates):
            vector = self.combine(cohort)
        if vector.shape != cohort.updates.shape[1:] or vector.dtype != cohort.updates.dtype:
            raise InputError(
                f"{rule}.combine gave {vector.dtype} of shape {tuple(vector.shape)} for updates of "
                f"{cohort.updates.dtype} and shape {tuple(cohort.updates.shape)}; expected one value a column"
            )
        return vector


def _combined(piece: Tensor, rule: Aggregator, cohort: Cohort) -> Tensor:
    return rule._combine(replace(cohort, updates=piece))


def _shares(piece: Tensor, rule: Aggregator, cohort: Cohort) -> Tensor:
    return rule.row_shares(replace(cohort, updates=piece)).cpu()
