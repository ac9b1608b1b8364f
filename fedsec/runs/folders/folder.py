"""A folder that fedsec left: what it is, how it ended, and which files in it are fedsec's."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from filelock import FileLock, Timeout

from fedsec.errors import BusyError

__all__ = ["LOCK", "Kept", "LeftFolder", "State", "Part", "total_size"]

LOCK = ".lock"
Part = Literal["checkpoints", "models", "all"]
"""What can go: with checkpoints a run cannot be extended by rounds, without models nothing can be done with them."""


@dataclass(frozen=True)
class State:
    """How a folder's work ended.

    Args:
        word: `done`, `interrupted`, `failed`, `running` or `unreadable`.
        finished: cells, rounds or inversions that are finished.
        planned: how many there would be.
        failed: how many failed.
    """

    word: Literal["done", "interrupted", "failed", "running", "unreadable"]
    finished: int = 0
    planned: int = 0
    failed: int = 0

    def __str__(self) -> str:
        if self.word == "failed":
            return f"{self.failed} of {self.planned} failed"
        if self.word in ("interrupted", "running") and self.planned:
            return f"{self.word}, {self.finished} of {self.planned}"
        return self.word


@dataclass(frozen=True)
class Kept:
    """Files on disk.

    Args:
        size: of all of them, in bytes.
        changed: when the last one was written, in seconds since 1970.
    """

    size: int
    changed: float


class LeftFolder(ABC):
    """What fedsec left in a folder.

    Args:
        path: the folder.
    """

    kind: ClassVar[Literal["run", "inversion", "recording"]]

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @abstractmethod
    def recognizes(cls, path: Path) -> bool:
        """Whether a folder is one of these."""

    @abstractmethod
    def state(self) -> State:
        """How its work ended."""

    @abstractmethod
    def about(self) -> str:
        """One line: what it was for."""

    @abstractmethod
    def owned(self, part: Part) -> list[Path]:
        """The files that can go, of those that fedsec wrote here by its own account.

        Args:
            part: which of them.
        """

    @abstractmethod
    def _remove(self, part: Part) -> None:
        """Let them go; nobody else is using the folder."""

    def remove(self, part: Part) -> int:
        """Remove them, and the folder if nothing else lies there; returns how many bytes that freed.

        Raises:
            BusyError: somebody is using the folder now.
        """
        before = self.kept.size
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(f"{self.path}: is in use now; wait until it is done") from error
        try:
            self._remove(part)
        finally:
            lock.release()
        if part == "all":
            (self.path / LOCK).unlink(missing_ok=True)
            if not self.path.is_symlink() and not any(self.path.iterdir()):
                self.path.rmdir()
        after = _measured(self.path).size if self.path.is_dir() else 0
        return before - after

    def is_busy(self) -> bool:
        """Whether somebody is using the folder now."""
        path = self.path / LOCK
        if not path.is_file():
            return False
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return True
        except OSError:  # a folder that one may only read; who writes to it cannot be told
            return False
        lock.release()
        return False

    @cached_property
    def kept(self) -> Kept:
        """All files of the folder, whoever wrote them."""
        return _measured(self.path)


def total_size(paths: list[Path]) -> int:
    """Bytes of files; those that are not there have none."""
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())


def _measured(folder: Path) -> Kept:
    size, times = 0, list[float]()
    for path in _files(folder):
        try:
            facts = path.lstat()
        except OSError:  # it has gone meanwhile
            continue
        size += facts.st_size
        times.append(facts.st_mtime)
    return Kept(size, max(times, default=folder.stat().st_mtime))


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if name != LOCK)
