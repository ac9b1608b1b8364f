"""Clients side by side on a GPU: the kernels of one client's small batches leave most of it idle."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import torch

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")


class DeviceStream(Protocol):
    """A queue of a device's work, as `torch.cuda.Stream` is."""

    def wait_stream(self, stream: Any) -> None:
        """Begin what is enqueued from here on only when the other one has done what it has now."""


class DeviceStreams(Protocol):
    """Makes streams, and says which one work goes to, as `torch.cuda` does."""

    def make(self) -> DeviceStream:
        """A new one."""

    def current(self) -> DeviceStream:
        """The one that work goes to."""

    def use(self, stream: Any) -> AbstractContextManager[object]:
        """Have work go to another one meanwhile."""


class CudaStreams:
    """Streams of a CUDA device.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def make(self) -> DeviceStream:
        """A new one."""
        stream: DeviceStream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return stream

    def current(self) -> DeviceStream:
        """The one that work goes to."""
        stream: DeviceStream = torch.cuda.current_stream(self.device)
        return stream

    def use(self, stream: Any) -> AbstractContextManager[object]:
        """Have work go to another one meanwhile."""
        return torch.cuda.stream(stream)


def take_turns(
    streams: DeviceStreams, workers: Sequence[Worker], work: Callable[[Worker, Item], Result], items: Sequence[Item]
) -> list[Result]:
    """Run `work(worker, item)` for every item, each worker on a stream of its own; results in order.

    One thread serves them all: what they do only enqueues work and waits for none of it. What is enqueued afterwards
    waits for all of it.

    Args:
        streams: of the device.
        workers: each has every so many items.
        work: must not touch what other items touch, nor wait for the device.
        items: in any number.
    """
    current, lanes, results = streams.current(), [streams.make() for _ in workers], []
    for lane in lanes:
        lane.wait_stream(current)
    try:
        for number, item in enumerate(items):
            turn = number % len(workers)
            with streams.use(lanes[turn]):
                results.append(work(workers[turn], item))
    finally:
        for lane in lanes:
            current.wait_stream(lane)
    return results
