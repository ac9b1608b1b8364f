"""What a log of runs is: told of cells, rounds and results as they come, and asked what it has already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["LogState", "LoggedCell", "LoggedRun", "Outcome", "RunLog"]

Outcome = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class LoggedRun:
    """A run that is logged.

    Args:
        name: of the scenario.
        question: what it is for.
        folder: of the run.
    """

    name: str
    question: str
    folder: Path


@dataclass(frozen=True)
class LoggedCell:
    """A cell that is logged.

    Args:
        id: of its configuration.
        place: in the matrix, on one line.
        axes: axis -> value: truth values and numbers where it is written as one.
        config: its resolved configuration, as plain data.
        identity: of the code, versions and data that its numbers come from.
    """

    id: str
    place: str
    axes: Mapping[str, Any]
    config: Mapping[str, Any]
    identity: str


@dataclass(frozen=True)
class LogState:
    """What a log has of a cell already.

    Args:
        last_round: the last round; 0 for none.
        ended: whether it has the result.
    """

    last_round: int = 0
    ended: bool = False


class RunLog(Protocol):
    """A log of runs; an exception of any of its methods but `open` ends the logging, never the run.

    A cell is begun before anything else is told of it. Rounds come in order and once: those that the log says it has
    are not told again, whether this run or an earlier one did.
    """

    def open(self, run: LoggedRun) -> None:
        """A run begins, or goes on. An exception keeps it from starting."""
        ...

    def begin(self, cell: LoggedCell) -> LogState:
        """A cell begins, goes on, or was finished earlier; what the log has of another identity counts no more."""
        ...

    def log_round(self, cell: LoggedCell, number: int, metrics: Mapping[str, float]) -> None:
        """A round has been evaluated; `number` is 1 for the first."""
        ...

    def end(self, cell: LoggedCell, record: Mapping[str, Any]) -> None:
        """A cell has ended; its record is that of `results.json`, with the status `done` or `failed`."""
        ...

    def close(self, outcome: Outcome, files: Sequence[Path]) -> None:
        """The run has ended and left these files: its page and its numbers."""
        ...
