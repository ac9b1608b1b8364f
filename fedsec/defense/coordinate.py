"""Rules that treat every coordinate for itself: column by column, in chunks that fit a cache, on a few threads."""

from abc import abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Cohort
from fedsec.defense.columns import column_chunks, for_each_chunk
from fedsec.defense.order_statistics import Scratch

__all__ = ["CoordinateRule"]


class CoordinateRule(Aggregator):
    """An aggregator that treats every coordinate for itself, such as the median.

    A subclass reduces one chunk of columns. Chunks fit the processor's cache, and on the CPU a few
    threads (`torch.get_num_threads()`, at most four) work on different chunks. Where the chunks end
    depends on the shape only, so the result does not depend on the number of threads.
    """

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
        vector = torch.empty(updates.shape[1], dtype=updates.dtype, device=updates.device)

        def reduce(columns: slice, index: int, scratch: Scratch) -> None:
            vector[columns] = self.reduce(cohort.rows(columns), cohort, scratch)

        for_each_chunk(updates, reduce)
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
