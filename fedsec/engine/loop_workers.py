"""Who trains single clients: on a CPU a worker a thread, on a GPU several at a time on streams of their own."""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol, TypeVar

import torch

from fedsec.engine.cuda_graphs import CudaGraphs, ProgramRecorder
from fedsec.engine.loop import LoopWorker
from fedsec.engine.streams import CudaStreams, DeviceStreams, take_turns
from fedsec.engine.threads import spread

Item = TypeVar("Item")
Result = TypeVar("Result")

CLIENTS_IN_FLIGHT = 8
"""Clients at a time on a GPU where steps are replayed: the kernels of one client's batch leave most of it idle."""


class MakesWorker(Protocol):
    """Makes a worker."""

    def __call__(self, *, recorder: ProgramRecorder | None) -> LoopWorker:
        """With what records its steps; None for nothing."""


class LoopWorkers:
    """The loop engine's workers.

    Args:
        make: makes a worker, with what records its steps.
        device: where they train.
        threads: of a CPU, each with a worker.
        records: whether steps are recorded and replayed, on a GPU.
    """

    def __init__(
        self,
        make: MakesWorker,
        device: torch.device,
        *,
        threads: int,
        records: bool,
    ) -> None:
        self.device, self._make, self._records = device, make, records and device.type == "cuda"
        self._recorders: list[CudaGraphs] = []
        self._idle: SimpleQueue[LoopWorker] = SimpleQueue()
        self._workers = [self._made() for _ in range(threads)]
        for worker in self._workers:
            self._idle.put(worker)
        self._streams: DeviceStreams = CudaStreams(device)

    @property
    def recording(self) -> bool:
        """Whether all record their steps and replay them."""
        return all(worker.recording for worker in self._workers)

    @property
    def problems(self) -> set[str]:
        """Why some could not record their steps."""
        return {worker.problem for worker in self._workers} - {""}

    def in_flight(self, clients: int, memory: int, budget: int) -> int:
        """How many clients are trained at a time on a GPU that replays their steps; otherwise 1.

        Args:
            clients: of the cohort.
            memory: bytes that each takes.
            budget: bytes for all.
        """
        if not self._records or not self.recording:
            return 1
        return max(1, min(CLIENTS_IN_FLIGHT, clients, budget // max(1, memory)))

    def run(
        self, work: Callable[[LoopWorker, Item], Result], items: Sequence[Item], in_flight: int = 1
    ) -> list[Result]:
        """Run `work(worker, item)` for every item, results in order.

        Args:
            work: must not touch what other items touch, nor, where several are in flight, wait for the device.
            items: in any number.
            in_flight: how many at a time on a GPU.
        """
        if in_flight == 1:
            return spread(self._idle, work, items)
        while len(self._workers) < in_flight:
            self._workers.append(self._made())
        return take_turns(self._streams, self._workers[:in_flight], work, items)

    def _made(self) -> LoopWorker:
        if not self._records:
            return self._make(recorder=None)
        self._recorders.append(CudaGraphs(self.device, self._recorders))
        return self._make(recorder=self._recorders[-1])
