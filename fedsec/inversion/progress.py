"""What an inversion shows while it works: a live line on a terminal, plain lines elsewhere, and a picture."""

import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from fedsec.errors import count_of
from fedsec.files import write_atomic
from fedsec.inversion.figures import Frame, glance
from fedsec.report.console import QUIET_SECONDS, say
from fedsec.report.progress import duration
from fedsec.report.progress_lines import Line, progress_lines
from fedsec.threat import Snapshot

__all__ = ["InversionProgress", "TrainingProgress"]

PICTURE_SECONDS = 4.0
"""Between two pictures of the best so far, at least."""
MOST_FRAMES = 60
"""Moments of the recovery that are kept; every other one is dropped when there are more."""


class InversionProgress:
    """Shows how far an attack has come; a context manager, and the watch to give to the attack.

    Args:
        console: where to show it; a quiet one shows nothing.
        originals: in [0, 1], for the picture of the best so far.
        path: of that picture, which is written at intervals; None for none.
        keep_frames: whether to keep moments of the recovery for an animation.
        clock: seconds since any fixed moment.

    Attributes:
        last: the last snapshot, None before the first.
        frames: moments of the recovery, if they are kept.
    """

    def __init__(
        self,
        console: Console,
        originals: Float[Tensor, "trials batch channels height width"],
        path: Path | None,
        *,
        keep_frames: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last: Snapshot | None = None
        self.frames: list[Frame] = []
        self._console, self._clock = console, clock
        self._originals, self._path = originals, path
        self._keep, self._stride, self._seen = keep_frames, 1, 0
        self._written = False
        self._begun = self._said = self._drawn = clock()
        self._pause = PICTURE_SECONDS
        self._stage = (self._begun, 0)  # when this stage was first heard of, and how far it was then
        self.lines = progress_lines(console, clock)
        if self.lines is not None:
            self.lines.show([Line(("attacking",))])

    def __enter__(self) -> Self:
        if self.lines is not None:
            self.lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lines is not None:
            self.lines.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Take notice of the best so far."""
        begins = self.last is None or self.last.stage != snapshot.stage
        self.last = snapshot
        now = self._clock()
        if begins:
            self._stage = (now, snapshot.iteration)
        if self._keep:
            self._remember(snapshot)
        if self._path is not None and now - self._drawn >= self._pause:
            picture = io.BytesIO()
            glance(self._originals, Frame(_reading(snapshot), snapshot.images.detach().cpu())).save(picture, "PNG")
            write_atomic(self._path, picture.getvalue())
            self._written = True
            self._drawn = self._clock()
            self._pause = max(PICTURE_SECONDS, 20 * (self._drawn - now))
        if self.lines is not None:
            parts = [_far(snapshot), self._left(snapshot, now), _loss(snapshot)]
            self.lines.show([Line(parts, snapshot.iteration, max(snapshot.iterations, 1))])
        elif begins or now - self._said >= QUIET_SECONDS:
            self._said = now
            say(self._console, f"{_reading(snapshot)} ({duration(now - self._begun)})")

    def discard(self) -> None:
        """Remove the picture of the best so far, if this wrote one."""
        if self._written and self._path is not None:
            self._path.unlink(missing_ok=True)
            self._written = False

    def _left(self, snapshot: Snapshot, now: float) -> str:
        """How long this stage takes yet, at the pace that it had so far."""
        since, first = self._stage
        done, left = snapshot.iteration - first, snapshot.iterations - snapshot.iteration
        seconds = (now - since) * left / done if done > 0 else 0.0
        return f"about {duration(seconds)} left" if seconds >= 1 else ""

    def _remember(self, snapshot: Snapshot) -> None:
        if self._seen % self._stride == 0:
            self.frames.append(Frame(_reading(snapshot), snapshot.images.detach().cpu().clone()))
        self._seen += 1
        if len(self.frames) > MOST_FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2


class TrainingProgress:
    """Shows how far the training of the attacked model has come; a context manager, and the watch of its epochs.

    Args:
        console: where to show it; a quiet one shows nothing.
        model: its name.
        epochs: how many there will be.
        clock: seconds since any fixed moment.
    """

    def __init__(
        self, console: Console, model: str, epochs: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._epochs, self._clock = console, epochs, clock
        self._what = f"training {model}"
        self._begun = clock()
        self.lines = progress_lines(console, clock)
        if self.lines is not None:
            self.lines.show([Line((self._what, f"{count_of(epochs, 'epoch')}"), 0, epochs)])

    def __enter__(self) -> Self:
        if self.lines is not None:
            self.lines.start()
        else:
            say(self._console, f"{self._what} for {count_of(self._epochs, 'epoch')}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lines is not None:
            self.lines.stop()

    def __call__(self, epoch: int, loss: float) -> None:
        """An epoch is over."""
        seconds = self._clock() - self._begun
        reading = f"epoch {epoch}/{self._epochs}"
        if self.lines is None:
            say(self._console, f"{reading}: loss {loss:.4g} ({duration(seconds)})")
            return
        left = seconds / epoch * (self._epochs - epoch)
        rest = f"about {duration(left)} left" if left >= 1 else ""
        self.lines.show([Line((self._what, rest, reading, f"loss {loss:.3g}"), epoch, self._epochs)])


def _reading(snapshot: Snapshot) -> str:
    return ", ".join(filter(None, [_far(snapshot), _loss(snapshot)]))


def _far(snapshot: Snapshot) -> str:
    return f"{snapshot.stage}: {snapshot.iteration}/{snapshot.iterations}"


def _loss(snapshot: Snapshot) -> str:
    """The matching loss, of several trials the mean; nothing where there is none yet."""
    losses = [loss for loss in snapshot.losses.detach().cpu().tolist() if math.isfinite(loss)]
    if not losses:
        return ""
    many = f" (mean of {len(losses)})" if len(losses) > 1 else ""
    return f"matching loss {sum(losses) / len(losses):.3g}{many}"
