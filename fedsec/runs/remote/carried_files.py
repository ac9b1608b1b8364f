"""Files of a run that travel through Ray, where a node does not see the run's folder."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from fedsec.runs.cell_files import CHECKPOINT, LOG
from fedsec.runs.store import Store
from fedsec.runs.tasks import CellTask

CARRYING_SHARE = 20
"""A checkpoint is carried when this many times as long has passed as carrying the last one took, see `cell`."""
_PREFIX = "fedsec-cell-"


def needed_files(task: CellTask, store: Store, cell_id: str, rows: Sequence[Path]) -> list[str]:
    """Paths below the run's folder of what a task goes on from, as far as it is there.

    Args:
        task: a cell, or a client's training.
        store: the run's folder.
        cell_id: of the task's cell.
        rows: shared training that the cell picks its rows from.
    """
    paths = [] if task.kind == "train" else [store.root / cell_id / name for name in (LOG, CHECKPOINT)]
    if task.origin is not None:
        paths += [store.root / task.origin / name for name in (LOG, CHECKPOINT)]
        paths += store.cell(task.origin).pictures()
    return [str(path.relative_to(store.root)) for path in (*paths, *rows) if path.is_file()]


class CarriedFiles:
    """A task's folder on a node, as long as the task runs; a context manager.

    Args:
        task: what is to run.
        files: what it goes on from, by path below the run's folder.

    Attributes:
        task: the same, with the folder on the node in the place of the run's.
    """

    def __init__(self, task: CellTask, files: Sequence[tuple[str, bytes]]) -> None:
        _sweep()
        self.root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self.task = replace(task, settings=replace(task.settings, root=self.root))
        for path, content in files:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content)
        self._known = {path: _stamp(path) for path in self._files()}
        self._due, self._cost = 0.0, 0.0

    def __enter__(self) -> Self:
        """See above."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root, ignore_errors=True)

    def changed(self, *, final: bool) -> dict[str, bytes]:
        """What is to be carried now: at the end all that is new, before that a new checkpoint with its log.

        Args:
            final: whether the task has ended.
        """
        now = time.monotonic()
        if final:
            return self._read(list(self._files()))
        checkpoints = [path for path in self.root.glob(f"*/{CHECKPOINT}") if self._is_new(path)]
        if not checkpoints or now < self._due:
            return {}
        # The checkpoint first: the log has its lines, and perhaps more.
        content = self._read([file for path in checkpoints for file in (path, path.with_name(LOG))])
        self._cost = time.monotonic() - now
        self._due = now + CARRYING_SHARE * max(self._cost, 0.05)
        return content

    def _files(self) -> Iterator[Path]:
        return (path for path in sorted(self.root.rglob("*")) if path.is_file() and not path.name.startswith("."))

    def _is_new(self, path: Path) -> bool:
        return self._known.get(path) != _stamp(path)

    def _read(self, paths: Sequence[Path]) -> dict[str, bytes]:
        content = {}
        for path in paths:
            stamp = _stamp(path)
            if self._known.get(path) != stamp:
                content[str(path.relative_to(self.root))] = path.read_bytes()
                self._known[path] = stamp
        return content


def _stamp(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _sweep() -> None:
    """Remove folders of workers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            process = int(folder.name.removeprefix(_PREFIX).partition("-")[0])
            if folder.stat().st_uid == os.getuid() and not _alive(process):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
