"""What runs in a worker of Ray's: it hands one task to a child process, and the child's events and files back.

The child is that of the local pool, so that a cell computes with the same settings of the numerical libraries, a
crash of it is told from a failure of the node, and it leaves when its parent does. It is kept for the next task.
"""

import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypedDict

from fedsec.cluster.nodes import name_of_this_node
from fedsec.cluster.streams import get
from fedsec.runs.events import Done, Event, Failed, ends, to_json
from fedsec.runs.local_pool import LocalPool
from fedsec.runs.remote.carried_files import CarriedFiles
from fedsec.runs.tasks import CellTask

BATCH_SECONDS = 0.1
"""Events of so long travel together."""


class Piece(TypedDict):
    """A piece of a task's answer.

    Keys:
        node: the name of the node.
        events: as `events.to_json` writes them.
        files: content by path below the run's folder, where they are carried.
        needs_files: whether the task did not begin, since the node does not share the run's folder.
    """

    node: str
    events: list[dict[str, Any]]
    files: dict[str, bytes]
    needs_files: bool


_children: dict[tuple[int, str | None], LocalPool] = {}
"""By number of threads and visible GPUs."""


def serve(
    content: dict[str, Any], mark: str | None, files: Sequence[tuple[str, Any]], directory: str
) -> Iterator[Piece]:
    """Run a task on this node.

    Args:
        content: the task as plain data.
        mark: a file in the run's folder that shows that the node sees it; None: files are carried.
        files: where they are carried, what the task goes on from: path below the run's folder, reference.
        directory: where the run was started; relative paths of data begin there, if the node has it.
    """
    task = CellTask.from_json(content)
    if mark is not None:
        if not Path(mark).is_file():
            yield _piece(needs_files=True)
            return
        for events in _batches(_child(task, directory).run([task])):
            yield _piece(events)
        return
    with CarriedFiles(task, [(path, get(reference)) for path, reference in files]) as carried:
        for events in _batches(_child(carried.task, directory).run([carried.task])):
            yield _piece(events, carried.changed(final=ends(events[-1])))


def missing_pieces(questions: Sequence[dict[str, Any]], directory: str) -> list[str]:
    """What this node lacks for the cells that tasks of kind `look` name, a line each."""
    problems: dict[str, None] = {}
    for content in questions:
        task = CellTask.from_json(content)
        for _, event in _child(task, directory).run([task]):
            match event:
                case Failed(error):
                    problems[error] = None
                case Done(record):
                    problems |= dict.fromkeys((record or {})["missing"])
    return list(problems)


def _child(task: CellTask, directory: str) -> LocalPool:
    """A pool of one process for the task."""
    key = task.settings.threads, os.environ.get("CUDA_VISIBLE_DEVICES")
    if key not in _children:
        _enter(directory)
        _children[key] = LocalPool(1, task.settings.threads)
    return _children[key]


def _enter(directory: str) -> None:
    """Go where the run was started, unless Ray was told to bring a folder along, or there is none of that name."""
    from fedsec.cluster import require_ray

    brought = require_ray().get_runtime_context().runtime_env.get("working_dir")
    if not brought and Path(directory).is_dir():
        os.chdir(directory)


def _piece(events: Sequence[Event] = (), files: dict[str, bytes] | None = None, *, needs_files: bool = False) -> Piece:
    return {
        "node": name_of_this_node(),
        "events": [*map(to_json, events)],
        "files": files or {},
        "needs_files": needs_files,
    }


def _batches(events: Iterator[tuple[int, Event]]) -> Iterator[list[Event]]:
    """Events as they come, those of a moment together; the first and the last at once."""
    queue: SimpleQueue[Event] = SimpleQueue()

    def listen() -> None:
        try:
            for _, event in events:
                queue.put(event)
        except Exception as error:  # the other thread must not wait for ever
            queue.put(Failed(f"{type(error).__name__}: {error}", trace=traceback.format_exc()))

    threading.Thread(target=listen, daemon=True).start()
    batch = [queue.get()]
    while not ends(batch[-1]):
        yield batch
        batch = [queue.get()]
        deadline = time.monotonic() + BATCH_SECONDS
        while not ends(batch[-1]) and (left := deadline - time.monotonic()) > 0:
            try:
                batch.append(queue.get(timeout=left))
            except Empty:
                break
    yield batch
