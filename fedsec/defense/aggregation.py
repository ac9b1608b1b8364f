"""Interfaces of defenses: what is done with updates before they are applied.

A round is a matrix: every row of `updates: Float[Tensor, "clients parameters"]` is one client's
flattened update, and an `Aggregator` turns it into one vector. The base classes own the contract
(shapes, dtypes, finiteness, weights, how many rows may be lost); a subclass holds only its method.

**The gate.** A row with a NaN or an infinity is rejected before any rule sees it. It counts as a
Byzantine row that the rule no longer has to withstand, and it is reported.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack, final, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.cohort import Aggregate, Cohort, RoundContext, check_context
from fedsec.defense.columns import column_chunks, for_each_chunk
from fedsec.defense.order_statistics import Scratch
from fedsec.defense.swift_products import swift_products
from fedsec.errors import AggregationError, InputError
from fedsec.threat.rows import as_given, as_matrix, as_tensor
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["Aggregate", "Aggregator", "Cohort", "CoordinateRule", "Weights", "surely_finite"]

Weights = Tensor | np.ndarray | Sequence[float] | None
"""Relative weights of the clients; None for equal ones."""


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
        needs_shapes: whether it treats parameters one by one, and needs their shapes at every call.
        detects: whether it says which clients it takes for Byzantine.
        shows_non_finite: whether NaN or infinity in any row makes a value of the result NaN, infinite or the largest of
            its dtype. The gate then looks at the rows only where the result has one, and saves a pass over the data.
        reads_products: whether it asks for inner products of the rows. A row that is not finite shows in its squared
            length, so that the gate works them out first, and looks at the rows only where that tells nothing.
        sees_mixtures: whether it takes rows from `Cohort.rows`, which mixes them chunk by chunk. Others are given a
            mixed copy as `Cohort.updates`, where there is a pre-aggregator.
    """

    role: ClassVar[str] = "rule"
    """Where in a round its kind acts: the server, on all updates, last."""
    uses_weights: bool = False
    needs_global_model: bool = False
    draws: bool = False
    needs_server_update: bool = False
    needs_shapes: bool = False
    detects: bool = False
    shows_non_finite: ClassVar[bool] = False
    reads_products: bool = False
    sees_mixtures: ClassVar[bool] = False

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
                `server_update`, `shapes`.

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
            The vector and the influence of each client, as tensors, the rejected rows and, of rules that detect, the
            suspected ones.

        Raises:
            InputError: the arguments are malformed, or the rule cannot work with so many clients.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        matrix = as_matrix(type(self).__name__, updates)
        cohort, rejected, vector = self._aggregated(matrix, weights, context)
        with unmodified(f"{type(self).__name__}.shares", updates=cohort.updates):
            shares = self.shares(cohort).double()
        finite = [row for row in range(len(matrix)) if row not in rejected]
        influence = torch.zeros(len(matrix), dtype=torch.float64, device=matrix.device)
        influence[finite] = shares.to(matrix.device)
        suspected = None
        if self.detects:
            suspected = tuple(sorted({*rejected, *(finite[row] for row in self.suspects(cohort))}))
        return Aggregate(vector, influence, rejected, suspected)

    @abstractmethod
    def max_rejected(self, num_clients: int) -> int:
        """How many of `num_clients` rows the gate may hold back before the rule gives up.

        For a robust rule this is the number of Byzantine rows it withstands.

        Raises:
            InputError: the rule cannot work with so many clients at all.
        """

    def staged(self, cohort: Cohort) -> Cohort:
        """What `combine` and `shares` are then given; called once, before both. For rules that go through stages."""
        return cohort

    @abstractmethod
    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        """The aggregated update of finite rows, with their dtype and on their device."""

    @abstractmethod
    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        """Which part of the aggregate each row contributed; not negative, summing to one, or to zero where none did."""

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
        rule, num_clients = type(self).__name__, len(updates)
        if self.draws and context.get("generator") is None:
            raise InputError(f"{rule}: draws random numbers; expected a generator, a new one for each call")
        if self.needs_server_update and context.get("server_update") is None:
            raise InputError(
                f"{rule}: trusts data of the server's own; expected server_update, an honest row from them"
            )
        if self.needs_shapes and context.get("shapes") is None:
            raise InputError(f"{rule}: treats parameters one by one; expected shapes, by name in their order in a row")
        check_context(rule, context, updates)
        max_rejected = self.max_rejected(num_clients)
        relative, updates = _checked_weights(rule, weights, num_clients), updates.detach()
        if self.shows_non_finite:
            cohort = self._cohort(updates, relative, (), context)
            vector = self._combine(cohort)
            if surely_finite(vector):
                return cohort, (), vector
        products = swift_products(updates) if self.reads_products else None
        rejected = _non_finite_rows(updates) if products is None else ()
        if len(rejected) > max_rejected or len(rejected) == num_clients:
            raise AggregationError(
                f"{rule}: rows {list(rejected)} of {num_clients} hold NaN or infinity; at most "
                f"{min(max_rejected, num_clients - 1)} may be lost"
            )
        cohort = self._cohort(updates, relative, rejected, context, products)
        return cohort, rejected, self._combine(cohort)

    def _cohort(
        self,
        updates: Tensor,
        weights: list[float],
        rejected: tuple[int, ...],
        context: RoundContext,
        products: Tensor | None = None,
    ) -> Cohort:
        rule = type(self).__name__
        numbers = context.get("clients")
        clients = list(range(len(updates)) if numbers is None else numbers)
        before = sum(weights)
        if rejected:
            finite = [row for row in range(len(updates)) if row not in rejected]
            updates, weights = updates[finite], [weights[row] for row in finite]
            clients = [clients[row] for row in finite]
        lost = 1 - sum(weights) / before
        if not self.uses_weights:
            weights, lost = [1.0] * len(updates), len(rejected) / (len(updates) + len(rejected))
        total = sum(weights)
        if total <= 0:
            raise AggregationError(f"{rule}: the finite rows have no weight; rows {list(rejected)} were rejected")
        shapes, server = context.get("shapes"), context.get("server_update")
        cohort = Cohort(
            updates,
            tuple(weight / total for weight in weights),
            len(rejected),
            context.get("generator") if self.draws else None,
            products=products,
            clients=tuple(clients),
            server_update=None if server is None else server.detach(),
            shapes=None if shapes is None else {name: torch.Size(shape) for name, shape in shapes.items()},
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


class CoordinateRule(Aggregator):
    """An aggregator that treats every coordinate for itself, such as the median.

    A subclass reduces one chunk of columns. Chunks fit the processor's cache, and on the CPU a few
    threads (`torch.get_num_threads()`, at most four) work on different chunks. Where the chunks end
    depends on the shape only, so the result does not depend on the number of threads.

    Attributes:
        all_columns_at_once: give `reduce` the whole matrix, for a kernel that does its own splitting.
        one_pass: whether `reduce` passes over each row once and keeps nothing but a total, as sums do: chunks are wider
            then.
    """

    all_columns_at_once: bool = False
    one_pass: ClassVar[bool] = False
    sees_mixtures = True

    @abstractmethod
    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        """Aggregate some columns.

        Args:
            chunk: some columns of the rows that the rule sees; must not be written to.
            cohort: all admitted rows and their weights.
            scratch: buffers of this thread, for rules that want to allocate nothing.

        Returns:
            One value a column; copied before `scratch` is used again.
        """

    @abstractmethod
    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        """Which part of these columns' aggregate each client contributed; sums to one."""

    @final
    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        updates = cohort.updates
        if self.all_columns_at_once:
            return self.reduce(cohort.rows(slice(None)), cohort, Scratch())
        vector = torch.empty(updates.shape[1], dtype=updates.dtype, device=updates.device)

        def reduce(columns: slice, index: int, scratch: Scratch) -> None:
            vector[columns] = self.reduce(cohort.rows(columns), cohort, scratch)

        for_each_chunk(updates, reduce, wide=self.one_pass)
        return vector

    @final
    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        updates = cohort.updates
        chunks = column_chunks(updates)
        totals = torch.empty(len(chunks), cohort.num_rows, dtype=torch.float64, device=updates.device)

        def share(columns: slice, index: int, scratch: Scratch) -> None:
            totals[index] = self.share(cohort.rows(columns), cohort, scratch).double() * (columns.stop - columns.start)

        for_each_chunk(updates, share)
        return totals.sum(0) / updates.shape[1]


def _non_finite_rows(updates: Tensor) -> tuple[int, ...]:
    """Numbers of the rows that hold NaN or infinity."""
    # Both survive any sum. A finite row may overflow, so an odd sum is only a reason to look closely.
    sums = updates.sum(1, dtype=torch.float32 if updates.element_size() < 4 else None)
    suspects = (~sums.isfinite()).nonzero().flatten().tolist()
    return tuple(row for row in suspects if not bool(updates[row].isfinite().all()))


def surely_finite(vector: Tensor) -> bool:
    """Whether no value is NaN, infinite, or as large as one that infinity may have been clamped to."""
    low, high = (float(edge) for edge in torch.aminmax(vector))
    return -torch.finfo(vector.dtype).max < low and high < torch.finfo(vector.dtype).max


def _checked_weights(rule: str, weights: Weights, num_clients: int) -> list[float]:
    if weights is None:
        return [1.0] * num_clients
    values = as_tensor(f"{rule}: weights", weights).detach().double()
    if values.shape != (num_clients,) or not bool(values.isfinite().all()) or bool((values < 0).any()):
        raise InputError(
            f"{rule}: weights must be {num_clients} finite numbers, one for each client and none negative, not "
            f"{values.tolist()}"
        )
    if not bool(values.any()):
        raise InputError(f"{rule}: at least one weight must be positive")
    relative: list[float] = (values / values.max()).tolist()
    return relative
