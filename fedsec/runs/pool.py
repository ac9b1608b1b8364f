"""Worker processes that outlive neither their parent nor an interrupt."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import fedsec

Task = dict[str, Any]


@dataclass
class _Worker:
    process: "subprocess.Popen[str]"
    errors: IO[str]
    listener: threading.Thread | None = None
    task: int | None = None

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


@dataclass
class WorkerPool:
    """Runs tasks in child processes and yields their events as they come.

    Args:
        workers: number of processes.
        threads: CPU threads each may use; set before the numerical libraries start.
    """

    workers: int
    threads: int
    _events: "SimpleQueue[tuple[_Worker, dict[str, Any] | None]]" = field(default_factory=SimpleQueue)
    _running: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._running:
            worker.process.kill()
        for worker in self._running:
            worker.close()

    def run(
        self, tasks: Sequence[Task], on_start: Callable[[int], None] = lambda index: None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run all tasks; yields (index of the task, event). The last event of each task is `done` or `failed`.

        Args:
            tasks: JSON-able tasks, see `fedsec.runs.worker`.
            on_start: called with a task's index when a worker takes it up.
        """
        waiting = list(range(len(tasks)))[::-1]
        left = len(tasks)

        def assign(worker: _Worker) -> None:
            worker.task = waiting.pop()
            on_start(worker.task)
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):  # a dead worker is reported by its listener
                worker.process.stdin.write(json.dumps(tasks[worker.task]) + "\n")
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
                event = {"event": "failed", "error": _last_words(worker), "input": False, "trace": None}
                worker.close()
                if waiting:
                    self._running.append(self._spawn())
                    assign(self._running[-1])
            elif event["event"] in ("done", "failed"):
                worker.task = None
                if waiting:
                    assign(worker)
            if index is None:
                continue
            left -= event["event"] in ("done", "failed")
            yield index, event

    def _spawn(self) -> _Worker:
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the pool)
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
                self._events.put((worker, json.loads(line)))
        except ValueError:  # a line torn off by the worker's death
            worker.process.kill()
        finally:
            self._events.put((worker, None))


def _last_words(worker: _Worker) -> str:
    """Why a worker process ended without being asked to."""
    code = worker.process.wait()
    worker.errors.seek(0)
    lines = worker.errors.read().strip().splitlines()
    cause = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    if code == -9:
        cause += "; out of memory?"
    return f"the worker process ended ({cause})" + (f": {lines[-1]}" if lines else "")
