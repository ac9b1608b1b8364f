"""Worker processes on this machine that outlive neither their parent nor an interrupt."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Self

import fedsec
from fedsec.runs.events import Event, Failed, Started, ends, from_json
from fedsec.runs.tasks import CellTask

MOST_ATTEMPTS = 2
"""How often a task is given to a worker that then dies without having taken it up."""


@dataclass
class _Worker:
    process: "subprocess.Popen[str]"
    errors: IO[str]
    listener: threading.Thread | None = None
    task: int | None = None
    busy: bool = False

    def close(self) -> None:
        """End the process, if it still runs, and let go of everything that belongs to it."""
        self.process.kill()
        self.process.wait()
        if self.listener is not None:
            self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                with suppress(BrokenPipeError):  # closing flushes what a dead reader will never take
                    pipe.close()

    def last_words(self) -> str:
        """Why the process ended without being asked to."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        cause = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        if code == -9:
            cause += "; out of memory?"
        return f"the worker process ended ({cause})" + (f": {lines[-1]}" if lines else "")


@dataclass
class LocalPool:
    """Runs tasks in child processes, see `fedsec.runs.executor.Executor`.

    Args:
        workers: number of processes.
        threads: CPU threads each may use; set before the numerical libraries start.
    """

    workers: int
    threads: int
    _events: "SimpleQueue[tuple[_Worker, Event | None]]" = field(default_factory=SimpleQueue)
    _running: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._running:
            worker.process.kill()
        for worker in self._running:
            worker.close()

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        """See `Executor`. A worker that dies costs the task that it had taken up, and no other."""
        waiting = deque(range(len(tasks)))
        attempts = [0] * len(tasks)
        left = len(tasks)

        def assign(worker: _Worker) -> None:
            worker.task, worker.busy = waiting.popleft(), False
            attempts[worker.task] += 1
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):  # a dead worker is reported by its listener
                worker.process.stdin.write(json.dumps(tasks[worker.task].to_json()) + "\n")
                worker.process.stdin.flush()

        while len(self._running) < min(self.workers, left):
            self._running.append(self._spawn())
        for worker in self._running:
            if waiting:
                assign(worker)
        while left:
            worker, event = self._events.get()
            index = worker.task
            if event is None:
                self._running.remove(worker)
                if index is not None and not worker.busy and attempts[index] < MOST_ATTEMPTS:
                    waiting.appendleft(index)  # it died before it took the task up: another one shall
                elif index is not None:
                    event = Failed(worker.last_words(), lost=True)
                worker.close()
                if waiting:
                    self._running.append(self._spawn())
                    assign(self._running[-1])
            elif isinstance(event, Started):
                worker.busy = True
            elif ends(event):
                worker.task = None
                if waiting:
                    assign(worker)
            if index is not None and event is not None:
                left -= ends(event)
                yield index, event

    def _spawn(self) -> _Worker:
        errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (closed with the pool)
        # -P: a user's statistics.py in the current folder must not replace the library's; our own parent folder stays.
        paths = [str(Path(fedsec.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedsec.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        worker = _Worker(process, errors)
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        try:
            for line in worker.process.stdout:
                self._events.put((worker, from_json(json.loads(line))))
        except ValueError:  # a line torn off by the worker's death
            worker.process.kill()
        finally:
            self._events.put((worker, None))
