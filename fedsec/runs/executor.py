"""Who runs a run's tasks: the interface, and the executor that needs no other process."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from fedsec.runs.events import Event
from fedsec.runs.tasks import CellTask, forget, run_task


class Executor(Protocol):
    """Runs tasks somewhere and yields their events as they come; a context manager.

    Tasks and events are plain data (`CellTask.to_json`, `events.to_json`); results do not travel with them but lie in
    the run's folder, which every worker must see at the same path.
    """

    def __enter__(self) -> Self:
        """Get ready."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whatever still runs, at once."""
        ...

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        """Run all tasks; yields (index of the task, event). May be called again when all have ended.

        Args:
            tasks: in the order in which they are best begun.

        Yields:
            `Started` when a worker takes a task up; as its last event `Done` or `Failed`, also if the worker dies.
        """
        ...


class InProcess:
    """Runs one task after another in the calling process: for notebooks, tests and debuggers.

    The number of PyTorch's threads is as before afterwards. A task that brings the process down takes the caller along.
    """

    def __enter__(self) -> Self:
        """See `Executor`."""
        import torch

        self._threads = torch.get_num_threads()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `Executor`."""
        import torch

        forget()
        torch.set_num_threads(self._threads)

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        """See `Executor`. Events are yielded when their task has ended."""
        for index, task in enumerate(tasks):
            events: list[Event] = []
            run_task(task, events.append)
            yield from ((index, event) for event in events)
