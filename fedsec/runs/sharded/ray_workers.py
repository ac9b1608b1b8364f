"""Workers that are actors of a Ray cluster: rows and columns pass from node to node, never through the caller.

An actor that is lost, with its node or alone, is replaced by a new one, which trains the same clients again. Actors end
with the process that made them.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fedsec.cluster import Connection, require_ray
from fedsec.defense.shards import ColumnShards
from fedsec.errors import FedsecError, InputError
from fedsec.federation.sharded_rounds import LostRowsError, RowsKept, ShardWorkers, WorkOrder
from fedsec.runs.provenance import differences, provenance
from fedsec.runs.sharded.room import check_room
from fedsec.runs.sharded.worker import ShardWorker
from fedsec.scenario import CellConfig

Result = TypeVar("Result")
MOST_REPLACEMENTS = 20
"""Actors that are lost in one cell before it is given up."""
PATIENCE = 600.0
"""Seconds that new actors may take to start and to build what they need."""


class RayWorkers(ShardWorkers):
    """Workers on the nodes of a cluster, one actor each.

    Args:
        count: how many.
        config: the cell's resolved configuration, as plain data.
        device: `cpu` or `cuda`; then each has a GPU.
        threads: of each, and its CPUs.
        address: of the cluster, see `fedsec.cluster.Connection`.

    Raises:
        InputError: there is no such cluster, it has no room for so many, or a node lacks something.
    """

    def __init__(self, count: int, config: Mapping[str, Any], device: str, threads: int, *, address: str) -> None:
        self.count, self.content, self.device, self.threads = count, dict(config), device, threads
        self._connection = Connection(address)
        self._connection.__enter__()
        self._ray = require_ray()
        self._replaced = 0
        self._made_with = provenance(CellConfig.model_validate(self.content), device)
        self.actors: list[Any] = []
        try:
            options = {"num_cpus": threads, "num_gpus": 1 if device == "cuda" else 0}
            # Once, and not for each actor that takes a lost one's place: this makes a class.
            self._kind = self._ray.remote(_Actor).options(**options, scheduling_strategy="SPREAD", max_restarts=0)
            check_room(count, threads, gpus=device == "cuda")
            self.actors = [self._started() for _ in range(count)]
            self._built(range(count))
        except BaseException:
            self.close()
            raise

    def train(self, orders: Sequence[WorkOrder]) -> list[RowsKept]:
        parameters = self._ray.put(orders[0].start.parameters.cpu().numpy())
        reports: list[RowsKept | None] = [None] * self.count
        while None in reports:
            missing = [place for place, report in enumerate(reports) if report is None]
            self._built(missing)
            references = {
                place: self.actors[place].train.remote(_without_parameters(orders[place]), parameters)
                for place in missing
            }
            for place, reference in references.items():
                try:
                    reports[place] = self._get(reference)
                except LostRowsError:
                    self._replace(place)
        return [report for report in reports if report is not None]

    def exchange(self, blocks: Sequence[slice]) -> ColumnShards:
        holders = self.actors[: len(blocks)]
        shapes = [
            holder.gather.remote(*[actor.columns.remote(block) for actor in self.actors])
            for holder, block in zip(holders, blocks, strict=True)
        ]
        return _ActorShards(self, holders, [self._get(shape) for shape in shapes])

    def close(self) -> None:
        """End the actors, and disconnect."""
        for actor in self.actors:
            self._ray.kill(actor)
        self.actors = []
        self._connection.__exit__(None, None, None)

    def get(self, references: Sequence[Any]) -> list[Any]:
        """What actors answer, in order.

        Raises:
            LostRowsError: one of them, or what it held, is gone; those that are gone are replaced by the next `train`.
        """
        return [self._get(reference) for reference in references]

    def _get(self, reference: Any, patience: float | None = None) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference, timeout=patience)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, errors.RayError):  # what it was given is lost
                raise LostRowsError(_first_line(cause)) from error
            if isinstance(cause, FedsecError):
                raise cause from None
            raise RuntimeError(f"on an actor: {error}") from error
        except errors.GetTimeoutError as error:
            raise FedsecError(
                f"no actor of {self.threads} CPUs started within {PATIENCE:g} s; expected room in the cluster, which "
                "others may use"
            ) from error
        except errors.RayError as error:
            raise LostRowsError(_first_line(error)) from error

    def _started(self) -> Any:
        return self._kind.remote(self.content, self.device, self.threads, self._made_with, 1 / self.count)

    def _built(self, places: Sequence[int]) -> None:
        """Wait until these actors are ready; replace those that are lost meanwhile, or were before."""
        waiting = list(places)
        while waiting:
            references = [self.actors[place].build.remote() for place in waiting]
            lost = []
            for place, reference in zip(waiting, references, strict=True):
                try:
                    self._get(reference, PATIENCE)
                except LostRowsError:
                    self._replace(place)
                    lost.append(place)
            waiting = lost

    def _replace(self, place: int) -> None:
        self._replaced += 1
        if self._replaced > MOST_REPLACEMENTS:
            raise FedsecError(f"{self._replaced} actors were lost in one cell; expected a cluster that keeps its nodes")
        check_room(self.count, self.threads, gpus=self.device == "cuda")
        self.actors[place] = self._started()


class _ActorShards(ColumnShards):
    """The pieces that actors hold."""

    def __init__(self, workers: RayWorkers, holders: Sequence[Any], shapes: Sequence[tuple[int, int, Any]]) -> None:
        self._workers, self._holders = workers, list(holders)
        self.num_rows, self.dtype = shapes[0][0], shapes[0][2]
        self.widths = tuple(width for _, width, _ in shapes)

    def map(self, work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
        return self._workers.get(
            [holder.look.remote(work, *own) for holder, *own in zip(self._holders, *arguments, strict=True)]
        )

    def changed(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> ColumnShards:
        heights = self._workers.get(
            [holder.change.remote(work, *own) for holder, *own in zip(self._holders, *arguments, strict=True)]
        )
        shapes = [(height, width, self.dtype) for height, width in zip(heights, self.widths, strict=True)]
        return _ActorShards(self._workers, self._holders, shapes)


class _Actor:
    """A worker in a process of its own; takes and gives arrays, which Ray hands on without copies."""

    def __init__(
        self, config: Mapping[str, Any], device: str, threads: int, made_with: Mapping[str, str], share: float
    ) -> None:
        self._config, self._device, self._threads, self._made_with = config, device, threads, made_with
        self._share = share
        self._worker: ShardWorker | None = None

    def build(self) -> None:
        """Build what it works with, unless that was done; refuses what would lead to other numbers."""
        if self._worker is not None:
            return
        torch.set_num_threads(self._threads)
        here = provenance(CellConfig.model_validate(dict(self._config)), self._device)
        others = differences(self._made_with, here)
        if others:
            raise InputError(
                f"node {platform.node()} has another {', another '.join(others)} than the machine where the run was "
                "started; expected the same on all nodes"
            )
        self._worker = ShardWorker(self._config, self._device, self._threads, self._share)

    def train(self, order: WorkOrder, parameters: np.ndarray) -> RowsKept:
        """See `ShardWorker`."""
        start = replace(order.start, parameters=torch.from_numpy(parameters.copy()))
        return self._own.train(replace(order, start=start))

    def columns(self, block: slice) -> np.ndarray:
        """See `ShardWorker`."""
        return self._own.columns(block).numpy()

    def gather(self, *parts: np.ndarray) -> tuple[int, int, torch.dtype]:
        """See `ShardWorker`; gives the dtype, too."""
        whole = torch.from_numpy(np.concatenate(parts))
        height, width = self._own.gather(whole)
        return height, width, whole.dtype

    def look(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """See `ShardWorker`."""
        return self._own.look(work, *arguments)

    def change(self, work: Callable[..., Tensor], *arguments: Any) -> int:
        """See `ShardWorker`."""
        return self._own.change(work, *arguments)

    @property
    def _own(self) -> ShardWorker:
        if self._worker is None:
            raise RuntimeError("an actor was asked for something before it was built")
        return self._worker


def _without_parameters(order: WorkOrder) -> WorkOrder:
    return replace(order, start=replace(order.start, parameters=order.start.parameters.new_empty(0)))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
