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

from fedsec.files import write_atomic
from fedsec.inversion.figures import Frame, glance
from fedsec.report.console import QUIET_SECONDS, bars, say
from fedsec.report.progress import duration
from fedsec.threat import Snapshot

__all__ = ["InversionProgress"]

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
        self._bars = bars(console, clock)
        if self._bars is not None:
            self._line = self._bars.add_task("attacking", total=None, reading="")

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Take notice of the best so far."""
        begins = self.last is None or self.last.stage != snapshot.stage
        self.last = snapshot
        now = self._clock()
        if self._keep:
            self._remember(snapshot)
        if self._path is not None and now - self._drawn >= self._pause:
            picture = io.BytesIO()
            glance(self._originals, Frame(_reading(snapshot), snapshot.images.detach().cpu())).save(picture, "PNG")
            write_atomic(self._path, picture.getvalue())
            self._written = True
            self._drawn = self._clock()
            self._pause = max(PICTURE_SECONDS, 20 * (self._drawn - now))
        if self._bars is not None:
            whole = max(snapshot.iterations, 1)
            self._bars.update(
                self._line,
                description=_reading(snapshot),
                completed=snapshot.iteration,
                total=whole,
            )
        elif begins or now - self._said >= QUIET_SECONDS:
            self._said = now
            say(self._console, f"{_reading(snapshot)} ({duration(now - self._begun)})")

    def discard(self) -> None:
        """Remove the picture of the best so far, if this wrote one."""
        if self._written and self._path is not None:
            self._path.unlink(missing_ok=True)
            self._written = False

    def _remember(self, snapshot: Snapshot) -> None:
        if self._seen % self._stride == 0:
            self.frames.append(Frame(_reading(snapshot), snapshot.images.detach().cpu().clone()))
        self._seen += 1
        if len(self.frames) > MOST_FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2


def _reading(snapshot: Snapshot) -> str:
    losses = [loss for loss in snapshot.losses.detach().cpu().tolist() if math.isfinite(loss)]
    text = f"{snapshot.stage}: {snapshot.iteration}/{snapshot.iterations}"
    if not losses:
        return text
    many = f" (mean of {len(losses)})" if len(losses) > 1 else ""
    return f"{text}, matching loss {sum(losses) / len(losses):.3g}{many}"
