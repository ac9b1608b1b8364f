"""Interfaces of defenses: what is done with updates before they are applied.

A round is a matrix: every row of `updates: Float[Tensor, "clients parameters"]` is one client's
flattened update, and an `Aggregator` turns it into one vector. The base classes own the contract
(shapes, dtypes, finiteness, weights, how many rows may be lost); a subclass holds only its method.

**The gate.** A row with a NaN or an infinity is rejected before any rule sees it. It counts as a
Byzantine row that the rule no longer has to withstand, and it is reported.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.order_statistics import Scratch, compiled_middle_mean, middle_mean, middle_share, weighted_sum
from fedsec.errors import AggregationError, InputError
from fedsec.threat.sealed import Sealed, unmodified

__all__ = [
    "Aggregate",
    "Aggregator",
    "Cohort",
    "CoordinateRule",
    "Scratch",
    "compiled_middle_mean",
    "middle_mean",
    "middle_share",
    "weighted_sum",
]


@dataclass(frozen=True, eq=False)
class Aggregate:
    """One aggregation and the verdict on every client.

    Attributes:
        vector: the aggregated update.
        influence: which part of the vector each client contributed; sums to one, zero for rejected rows.
        rejected: numbers of the rows that were not finite.
    """

    vector: Float[Tensor, "parameters"]
    influence: Float64[Tensor, "clients"]
    rejected: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cohort:
    """The rows that passed the gate.

    Attributes:
        updates: finite rows, at least one.
        weights: one for each row, not negative, summing to one.
        num_rejected: how many further rows the gate held back.
        generator: of rules that draw random numbers, on the CPU; None for the others.
    """

    updates: Float[Tensor, "clients parameters"]
    weights: tuple[float, ...]
    num_rejected: int
    generator: torch.Generator | None = None


class Aggregator(Sealed, ABC):
    """Combines the updates of one round.

    A subclass fills in `max_rejected`, `combine` and `shares`; most do so through `CoordinateRule`.

    Attributes:
        uses_weights: whether the clients' weights matter. Robust rules ignore them, because a
            Byzantine client states its own number of examples.
        needs_global_model: whether the rule evaluates the global model at the server. It then needs running statistics
            of batch normalization there, and cannot be combined with `bn: local`.
        draws: whether the rule draws random numbers. It then needs a generator at every call.
    """

    uses_weights: ClassVar[bool] = False
    needs_global_model: ClassVar[bool] = False
    draws: ClassVar[bool] = False

    @final
    def __call__(
        self,
        updates: Float[Tensor, "clients parameters"],
        weights: Float[Tensor, "clients"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "parameters"]:
        """Aggregate without working out each client's influence.

        Args:
            updates: one row for each client, of any floating dtype, on any device; left unchanged.
            weights: relative weights of the clients, not negative; equal if not given. Rows that are
                rejected lose their weight to the others. Ignored unless `uses_weights`.
            generator: of the random numbers of a rule that `draws`, on the CPU; never twice the same.

        Returns:
            The aggregated update, with the dtype and the device of `updates`.

        Raises:
            InputError: the arguments are malformed, or the rule cannot work with so many clients.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        cohort, _ = self._admit(updates, weights, generator)
        return self._combine(cohort)

    @final
    def aggregate(
        self,
        updates: Float[Tensor, "clients parameters"],
        weights: Float[Tensor, "clients"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Aggregate:
        """Aggregate as `__call__` does, to the same vector, and work out each client's influence.

        Args:
            updates: one row for each client, of any floating dtype, on any device; left unchanged.
            weights: relative weights of the clients, as for `__call__`.
            generator: likewise.

        Returns:
            The vector, the influence of each client and the rejected rows.

        Raises:
            InputError: the arguments are malformed, or the rule cannot work with so many clients.
            AggregationError: too few finite rows, or too little weight, is left.
        """
        cohort, rejected = self._admit(updates, weights, generator)
        vector = self._combine(cohort)
        with unmodified(f"{type(self).__name__}.shares", updates=cohort.updates):
            shares = self.shares(cohort).double()
        influence = torch.zeros(len(updates), dtype=torch.float64, device=updates.device)
        influence[[row for row in range(len(updates)) if row not in rejected]] = shares
        return Aggregate(vector, influence, rejected)

    @abstractmethod
    def max_rejected(self, num_clients: int) -> int:
        """How many of `num_clients` rows the gate may hold back before the rule gives up.

        For a robust rule this is the number of Byzantine rows it withstands.

        Raises:
            InputError: the rule cannot work with so many clients at all.
        """

    @abstractmethod
    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        """The aggregated update of finite rows, with their dtype and on their device."""

    @abstractmethod
    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        """Which part of the aggregate each row contributed; not negative, summing to one."""

    def state(self) -> dict[str, Tensor]:
        """What the rule's next call depends on beside its arguments, by name; nothing for most rules."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""

    def _admit(
        self, updates: Tensor, weights: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Cohort, tuple[int, ...]]:
        """Check the arguments and hold back the rows that are not finite."""
        rule = type(self).__name__
        if updates.ndim != 2 or 0 in updates.shape or not updates.is_floating_point():
            raise InputError(
                f"{rule}: updates must be a floating-point matrix with a row for each client and at least one row and "
                f"column, not {updates.dtype} of shape {tuple(updates.shape)}"
            )
        if self.draws and generator is None:
            raise InputError(f"{rule}: draws random numbers; expected a generator, a new one for each call")
        if generator is not None and generator.device.type != "cpu":
            raise InputError(f"{rule}: generator must be on the CPU, not on {generator.device}")
        num_clients = len(updates)
        max_rejected = self.max_rejected(num_clients)
        checked = _checked_weights(rule, weights, num_clients)
        updates = updates.detach()
        rejected = _non_finite_rows(updates)
        if len(rejected) > max_rejected or len(rejected) == num_clients:
            raise AggregationError(
                f"{rule}: rows {list(rejected)} of {num_clients} hold NaN or infinity; at most "
                f"{min(max_rejected, num_clients - 1)} may be lost"
            )
        if rejected:
            finite = [row for row in range(num_clients) if row not in rejected]
            updates, checked = updates[finite], [checked[row] for row in finite]
        if not self.uses_weights:
            checked = [1.0] * len(updates)
        total = sum(checked)
        if total <= 0:
            raise AggregationError(f"{rule}: the finite rows have no weight; rows {list(rejected)} were rejected")
        shares = tuple(weight / total for weight in checked)
        return Cohort(updates, shares, len(rejected), generator if self.draws else None), rejected

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
    """

    all_columns_at_once: bool = False

    @abstractmethod
    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        """Aggregate some columns.

        Args:
            chunk: some columns of `cohort.updates`; must not be written to.
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
            return self.reduce(updates, cohort, Scratch())
        vector = torch.empty(updates.shape[1], dtype=updates.dtype, device=updates.device)

        def reduce(columns: slice, index: int, scratch: Scratch) -> None:
            vector[columns] = self.reduce(updates[:, columns], cohort, scratch)

        _for_each_chunk(updates, reduce)
        return vector

    @final
    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        updates = cohort.updates
        chunks = _column_chunks(updates)
        totals = torch.empty(len(chunks), len(updates), dtype=torch.float64, device=updates.device)

        def share(columns: slice, index: int, scratch: Scratch) -> None:
            totals[index] = self.share(updates[:, columns], cohort, scratch).double() * (columns.stop - columns.start)

        _for_each_chunk(updates, share)
        return totals.sum(0) / updates.shape[1]


def _for_each_chunk(updates: Tensor, work: Callable[[slice, int, Scratch], None]) -> None:
    """Call `work` with every chunk of columns, its number and buffers of the thread it runs in."""
    chunks = _column_chunks(updates)
    pending = deque(enumerate(chunks))
    # Inference mode belongs to a thread, and decides which tensors may be written to.
    inference = torch.is_inference_mode_enabled()

    def run() -> None:
        scratch = Scratch()
        with torch.inference_mode(inference):
            while True:
                try:
                    index, columns = pending.popleft()
                except IndexError:
                    return
                work(columns, index, scratch)

    threads = min(torch.get_num_threads(), _MAX_THREADS, len(chunks)) if updates.device.type == "cpu" else 1
    if threads == 1:
        run()
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run) for _ in range(threads)]:
            future.result()


_CPU_COLUMNS = 32768
"""PyTorch runs an elementwise operation on so many elements in the calling thread. Threads of our own
then cost one start a call instead of one barrier an operation, and do not stall when cores are shared."""

_CPU_BYTES = 16 << 20
"""Chunks get narrower where so many clients' chunks would not fit a thread's part of the outer cache."""

_MIN_COLUMNS = 2048
"""In narrower chunks the operations' fixed costs dominate."""

_GPU_BYTES = 512 << 20
"""On a GPU chunks only bound the memory that buffers take (and stay countable in float32)."""

_MAX_THREADS = 4
"""More threads would wait for each other's turns in the interpreter."""


def _column_chunks(updates: Tensor) -> list[slice]:
    """Slices of about equal width that cover the columns; they depend on nothing but shape, dtype and device."""
    num_clients, num_columns = updates.shape
    column_bytes = num_clients * updates.element_size()
    if updates.device.type == "cpu":
        widest = min(_CPU_COLUMNS, max(_MIN_COLUMNS, _CPU_BYTES // column_bytes))
    else:
        widest = min(1 << 24, max(_MIN_COLUMNS, _GPU_BYTES // column_bytes))
    pieces = ceil(num_columns / widest)
    if pieces > 2:
        pieces = ceil(pieces / _MAX_THREADS) * _MAX_THREADS
    width = ceil(num_columns / pieces / 64) * 64
    return [slice(start, min(start + width, num_columns)) for start in range(0, num_columns, width)]


def _non_finite_rows(updates: Tensor) -> tuple[int, ...]:
    """Numbers of the rows that hold NaN or infinity."""
    # Both survive any sum. A finite row may overflow, so an odd sum is only a reason to look closely.
    sums = updates.sum(1, dtype=torch.float32 if updates.element_size() < 4 else None)
    suspects = (~sums.isfinite()).nonzero().flatten().tolist()
    return tuple(row for row in suspects if not bool(updates[row].isfinite().all()))


def _checked_weights(rule: str, weights: Tensor | None, num_clients: int) -> list[float]:
    if weights is None:
        return [1.0] * num_clients
    values = weights.detach().double()
    if values.shape != (num_clients,) or not bool(values.isfinite().all()) or bool((values < 0).any()):
        raise InputError(
            f"{rule}: weights must be {num_clients} finite numbers, one for each client and none negative, not "
            f"{weights.tolist()}"
        )
    if not bool(values.any()):
        raise InputError(f"{rule}: at least one weight must be positive")
    checked: list[float] = (values / values.max()).tolist()
    return checked
