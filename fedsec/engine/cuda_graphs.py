"""Local steps recorded once and replayed: small batches of small images are bound by kernel launches otherwise.

A step is a program over tensors that stay where they are: it reads which examples to take from a buffer, and changes
parameters, optimizer state and running statistics in place. So what is recorded can be replayed for every batch of the
same size, whichever client it belongs to.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import torch
from jaxtyping import Int16, Int64
from torch import Tensor

Program = Callable[[], None]
Step = Callable[[Int64[Tensor, "batch"], Int16[Tensor, "batch 5"] | None], None]

WARM_UP = 3
"""Steps of one kind before it is recorded: libraries choose their algorithms and allocate what they need. They are
steps of the training like any other: nothing has to be undone, and a batch size seen but twice is never recorded."""
KEPT = 8
"""Recordings made at most; batches of further sizes run as they are. None is exchanged for another: that waits for the
device, and destroying one CUDA graph can spoil what others compute (PyTorch 2.12 to 2.14, issue 193402)."""


class ProgramRecorder(Protocol):
    """Makes programs that can be replayed."""

    def warm_up(self, program: Program) -> None:
        """Run a program as one that is recorded runs, but for real."""

    def record(self, program: Program) -> Program:
        """A program that has the same effect again; nothing happens meanwhile.

        Raises:
            RuntimeError: it cannot be recorded; nothing happened.
        """

    def forget(self) -> None:
        """Called before all recordings are thrown away."""


class CudaGraphs:
    """Records programs as CUDA graphs.

    Args:
        device: a CUDA device.
        others: whose graphs may run at the same time.
    """

    def __init__(self, device: torch.device, others: Sequence["CudaGraphs"] = ()) -> None:
        self.device = device
        # Graphs of one worker never run at the same time, and nothing lives in their pool between two replays.
        self._pool = torch.cuda.graph_pool_handle()
        # Its own: graphs captured on one stream share a cuBLAS workspace. PyTorch gives out 32 streams in turn.
        taken = [other.side for other in others]
        self.side: torch.cuda.Stream = next(
            stream for stream in map(torch.cuda.Stream, repeat(device)) if stream not in taken
        )

    def warm_up(self, program: Program) -> None:
        """On the side stream, as capturing does: no other worker's graph uses its workspace, and its memory is used."""
        current = torch.cuda.current_stream(self.device)
        self.side.wait_stream(current)
        with torch.cuda.stream(self.side):
            program()
        current.wait_stream(self.side)

    def record(self, program: Program) -> Program:
        graph, side = torch.cuda.CUDAGraph(), self.side
        try:
            # Entered twice: a capture that fails leaves its stream the current one (PyTorch up to 2.11).
            with (
                torch.cuda.device(self.device),
                torch.cuda.stream(side),
                torch.cuda.graph(graph, pool=self._pool, stream=side),
            ):
                program()
        except RuntimeError:
            torch.cuda.synchronize(self.device)
            raise
        return graph.replay

    def forget(self) -> None:
        """Wait: a graph must not be destroyed while it runs. The next ones get a pool that no dead graph has used."""
        torch.cuda.synchronize(self.device)
        self._pool = torch.cuda.graph_pool_handle()


@dataclass(frozen=True, eq=False)
class _Recording:
    """A recorded step and the buffers that it reads its batch from."""

    examples: Tensor
    views: Tensor | None
    replay: Program

    def run(self, examples: Tensor, views: Tensor | None) -> None:
        self.examples.copy_(examples)
        if self.views is not None and views is not None:
            self.views.copy_(views)
        self.replay()


class CapturedSteps:
    """Runs local steps, from the fourth of a size on by replaying its recording.

    Args:
        recorder: makes the recordings.

    Attributes:
        problem: why a step could not be recorded, after which all run as they are; empty if none failed.
    """

    def __init__(self, recorder: ProgramRecorder) -> None:
        self.recorder, self.problem = recorder, ""
        self._kind: Hashable = None
        self._runs: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}

    def run(
        self, step: Step, kind: Hashable, examples: Int64[Tensor, "batch"], views: Int16[Tensor, "batch 5"] | None
    ) -> None:
        """One step.

        Args:
            step: takes example numbers and views, and changes tensors in place, always the same ones; it must not look
                at their values, nor depend on anything else that changes. It is not kept: whoever owns both it and
                this would never be freed.
            kind: all that the step depends on beside the values in its tensors: settings, sizes and addresses of what
                it reads. Recordings of another kind are thrown away.
            examples: numbers of the batch's examples.
            views: how they are augmented.
        """
        if self.problem:
            step(examples, views)
            return
        if kind != self._kind:
            self.forget()
            self._kind = kind
        size = len(examples), views is None
        recording = self._recordings.get(size)
        if recording is not None:
            recording.run(examples, views)
        elif len(self._recordings) >= KEPT or self._runs[size] < WARM_UP:
            self._runs[size] += 1
            self.recorder.warm_up(lambda: step(examples, views))
        else:
            self._record(size, step, examples, views)

    def forget(self) -> None:
        """Throw all recordings away."""
        if self._recordings:
            self.recorder.forget()
        self._recordings.clear()
        self._runs.clear()

    def _record(self, size: Hashable, step: Step, examples: Tensor, views: Tensor | None) -> None:
        """Record a step and do it."""
        mine, seen = examples.clone(), None if views is None else views.clone()
        try:
            recording = self._recordings[size] = _Recording(mine, seen, self.recorder.record(lambda: step(mine, seen)))
        except RuntimeError as error:
            # Something in the model waits for the host, such as a branch on a tensor's value.
            self.problem = _cause(error)
            self.recorder.forget()
            self._recordings.clear()
            step(examples, views)
            return
        recording.replay()


def _cause(error: BaseException) -> str:
    """What broke a recording off, in a line: a capture's end has a complaint of its own, and the cause behind it."""
    cause = error.__context__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
