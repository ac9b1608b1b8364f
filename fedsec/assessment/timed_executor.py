"""Workers that stop when time is up, as if they had been interrupted: what they finished is kept."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fedsec.runs.events import Event, ends
from fedsec.runs.executor import Executor
from fedsec.runs.tasks import CellTask

__all__ = ["TimedExecutor"]


@dataclass
class TimedExecutor:
    """Runs tasks by another executor until a moment, see `Executor`.

    Args:
        executor: that runs them.
        until: on the clock.
        told: hears (tasks that have ended, of how many) whenever one has.
        clock: seconds since any fixed moment.
        passed: whether time was up before the tasks had ended.
    """

    executor: Executor
    until: float
    told: Callable[[int, int], None] = lambda done, total: None
    clock: Callable[[], float] = time.monotonic
    passed: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        self.executor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.executor.__exit__(kind, error, trace)

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        """See `Executor`.

        Raises:
            KeyboardInterrupt: time is up; a run takes it for an interruption, and can be gone on with.
        """
        done = 0
        self.told(done, len(tasks))
        for index, event in self.executor.run(tasks):
            yield index, event
            if ends(event):
                done += 1
                self.told(done, len(tasks))
            if self.clock() > self.until and done < len(tasks):
                self.passed = True
                raise KeyboardInterrupt
