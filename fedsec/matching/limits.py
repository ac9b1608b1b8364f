"""The limits that every search shares."""

from math import isfinite
from time import monotonic

from fedsec.errors import InputError

__all__ = ["Deadline", "check_limits"]


def check_limits(
    name: str, *, iterations: int = 1, restarts: int = 1, seconds: float | None = None, at_once: int | None = None
) -> None:
    """Refuse limits that make no sense.

    Args:
        name: of the attack, for the message.
        iterations: at least 1.
        restarts: at least 1.
        seconds: positive, or None for no limit.
        at_once: at least 1, or None for no limit.

    Raises:
        InputError: a limit out of range.
    """
    if iterations < 1 or restarts < 1:
        raise InputError(f"{name}: iterations and restarts must be at least 1, not {iterations} and {restarts}")
    if seconds is not None and not (isfinite(seconds) and seconds > 0):
        raise InputError(f"{name}: seconds must be positive, not {seconds}")
    if at_once is not None and at_once < 1:
        raise InputError(f"{name}: at_once must be at least 1, not {at_once}")


_PREPARATION = 4
"""One part in so many of the time goes to what comes before a search, at most."""


class Deadline:
    """A moment on the clock, looked at inside the innermost loops: an evaluation may take minutes.

    Args:
        seconds: from now on; None for never.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._moment = None if seconds is None else monotonic() + seconds

    @property
    def limited(self) -> bool:
        """Whether it will ever pass."""
        return self._moment is not None

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self._moment is not None and monotonic() >= self._moment

    def share(self, parts: int) -> "Deadline":
        """One for the first of so many parts of the time that is left."""
        return Deadline(None if self._moment is None else max(0.0, self._moment - monotonic()) / parts)

    def for_preparation(self) -> "Deadline":
        """One for what comes before the search: reading labels, trying the model, choosing how to compute."""
        return self.share(_PREPARATION)
