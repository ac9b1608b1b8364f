"""What a task tells while it works, as data that any executor can carry."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Started:
    """The task has been taken up."""


@dataclass(frozen=True)
class Begun:
    """A cell has loaded its data and begins its rounds.

    Args:
        round: after which it goes on; 0 where nothing was done before.
    """

    round: int


@dataclass(frozen=True)
class RoundDone:
    """A cell has finished a round.

    Args:
        round: 1 for the first.
        rounds: of the cell.
        metrics: what was measured, by name; None each where nothing was.
    """

    round: int
    rounds: int
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Said:
    """Something that the reader of the run should know.

    Args:
        text: one line.
    """

    text: str


@dataclass(frozen=True)
class Done:
    """The task has ended well.

    Args:
        record: a cell's record; None for other tasks.
    """

    record: dict[str, Any] | None = None


@dataclass(frozen=True)
class Failed:
    """The task has ended, or its worker has.

    Args:
        error: one line for the user.
        input: whether it is the user's input that cannot be run.
        trace: the traceback of what nobody expected.
        lost: whether its worker ended, by a signal or of itself; another one may do better.
    """

    error: str
    input: bool = False
    trace: str | None = None
    lost: bool = False


Event = Started | Begun | RoundDone | Said | Done | Failed
_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in (Started, Begun, RoundDone, Said, Done, Failed)}


def ends(event: Event) -> bool:
    """Whether an event is the last one of its task."""
    return isinstance(event, Done | Failed)


def to_json(event: Event) -> dict[str, Any]:
    """An event as plain data."""
    return {"event": type(event).__name__, **asdict(event)}


def from_json(content: Any) -> Event:
    """An event from plain data.

    Raises:
        ValueError: it is none.
    """
    try:
        fields = dict(content)
        return _KINDS[fields.pop("event")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no event: {content!r:.80}") from error
