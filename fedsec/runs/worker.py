"""A worker process: takes tasks as JSON lines on standard input, answers with their events as JSON lines.

A plain child process rather than `multiprocessing`: it never re-imports the caller's script, and when
its parent dies, however suddenly, its input ends and it leaves.
"""

import json
import os
import sys
import threading
from queue import SimpleQueue

from fedsec.runs.events import Event, to_json
from fedsec.runs.tasks import CellTask, run_task


def main() -> None:
    """Serve tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    tasks: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()

    from fedsec.engine.allocator import tune_allocator

    tune_allocator()

    def send(event: Event) -> None:
        answers.write(json.dumps(to_json(event)) + "\n")

    while True:
        run_task(CellTask.from_json(json.loads(tasks.get())), send)


def _read(tasks: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
