"""Workers that all live in this process: what a cluster does, without one."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from fedsec.defense.shards import ColumnShards
from fedsec.federation.sharded_rounds import RowsKept, ShardWorkers, WorkOrder
from fedsec.runs.sharded.worker import ShardWorker

Result = TypeVar("Result")


class LocalWorkers(ShardWorkers):
    """Workers of this process, one after another.

    Args:
        count: how many.
        build: makes one.
    """

    def __init__(self, count: int, build: Callable[[], ShardWorker]) -> None:
        self.count, self.workers = count, [build() for _ in range(count)]

    def train(self, orders: Sequence[WorkOrder]) -> list[RowsKept]:
        return [worker.train(order) for worker, order in zip(self.workers, orders, strict=True)]

    def exchange(self, blocks: Sequence[slice]) -> ColumnShards:
        holders = self.workers[: len(blocks)]
        for holder, block in zip(holders, blocks, strict=True):
            holder.gather(*[worker.columns(block) for worker in self.workers])
        return _HeldShards(holders)


class _HeldShards(ColumnShards):
    """The pieces that workers hold."""

    def __init__(self, holders: Sequence[ShardWorker]) -> None:
        self.holders = list(holders)
        pieces = [holder.piece for holder in holders if holder.piece is not None]
        self.num_rows, self.dtype = len(pieces[0]), pieces[0].dtype
        self.widths = tuple(piece.shape[1] for piece in pieces)

    def map(self, work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
        return [holder.look(work, *own) for holder, *own in zip(self.holders, *arguments, strict=True)]

    def changed(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> ColumnShards:
        for holder, *own in zip(self.holders, *arguments, strict=True):
            holder.change(work, *own)
        return _HeldShards(self.holders)
