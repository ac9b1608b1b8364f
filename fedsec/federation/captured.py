"""Local steps recorded once and replayed: small batches of small images are bound by kernel launches otherwise.

A step is a program over tensors that stay where they are: it reads which examples to take from a buffer, and changes
parameters, optimizer state and running statistics in place. So what is recorded can be replayed for every batch of the
same size, whichever client it belongs to.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
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
"""Recordings kept at a time; the one that was not used for longest goes first."""


class Recorder(Protocol):
    """Makes programs that can be replayed."""

    def warm_up(self, program: Program) -> None:
        """Run a program as it will be recorded, but for real."""

    def record(self, program: Program) -> Program:
        """A program that has the same effect again; nothing happens meanwhile.

        Raises:
            RuntimeError: it cannot be recorded; nothing happened.
        """

    def forget(self) -> None:
        """Called before a recording is thrown away."""


class CudaGraphs:
    """Records programs as CUDA graphs.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # Graphs of one worker never run at the same time, and nothing lives in their pool between two replays.
        self._pool = torch.cuda.graph_pool_handle()
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, program: Program) -> None:
        """On a side stream, as capturing does."""
        current = torch.cuda.current_stream(self.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            program()
        current.wait_stream(self._side)

    def record(self, program: Program) -> Program:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self.device), torch.cuda.graph(graph, pool=self._pool):
                program()
        except RuntimeError:
            torch.cuda.synchronize(self.device)
            raise
        return graph.replay

    def forget(self) -> None:
        """Wait: a graph must not be destroyed while it runs."""
        torch.cuda.synchronize(self.device)


@dataclass(eq=False)
class _Slot:
    """One kind of step: its buffers, how often it ran, and its recording."""

    examples: Tensor
    views: Tensor | None
    runs: int = 0
    replay: Program | None = None

    def fill(self, examples: Tensor, views: Tensor | None) -> None:
        self.examples.copy_(examples)
        if self.views is not None and views is not None:
            self.views.copy_(views)


class CapturedSteps:
    """Runs local steps, from the fourth of a kind on by replaying its recording.

    Args:
        step: takes example numbers and views, and changes tensors in place, always the same ones; it must not look at
            their values, nor depend on anything else that changes.
        recorder: makes the recordings.

    Attributes:
        problem: why a step could not be recorded, after which all run as they are; empty if none failed.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self.problem = ""
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()

    def run(self, kind: Hashable, examples: Int64[Tensor, "batch"], views: Int16[Tensor, "batch 5"] | None) -> None:
        """One step.

        Args:
            kind: all that the step depends on beside the values in its tensors: sizes and addresses of what it reads.
            examples: numbers of the batch's examples.
            views: how they are augmented.
        """
        if self.problem:
            self.step(examples, views)
            return
        slot = self._slot((kind, len(examples), views is None), examples, views)
        slot.fill(examples, views)
        slot.runs += 1

        def program() -> None:
            self.step(slot.examples, slot.views)

        if slot.replay is None and slot.runs > WARM_UP:
            try:
                slot.replay = self.recorder.record(program)
            except RuntimeError as error:
                # Something in the model waits for the host, such as a branch on a tensor's value.
                self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
                self.forget()
                program()
                return
        if slot.replay is None:
            self.recorder.warm_up(program)
        else:
            slot.replay()

    def forget(self) -> None:
        """Throw all recordings away."""
        if self._slots:
            self.recorder.forget()
            self._slots.clear()

    def _slot(self, kind: Hashable, examples: Tensor, views: Tensor | None) -> _Slot:
        found = self._slots.get(kind)
        if found is None:
            found = self._slots[kind] = _Slot(examples.clone(), None if views is None else views.clone())
            if len(self._slots) > KEPT:
                self.recorder.forget()
                self._slots.popitem(last=False)
        self._slots.move_to_end(kind)
        return found
