"""Lines that change while something is at work: on a terminal by rich, in a notebook as HTML, elsewhere none.

A line is a bar and the parts of a sentence, of which as many are shown as fit: no word is broken at the edge.
"""

import html
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import Progress, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedsec.report.console import NotebookConsole, is_live

__all__ = ["Line", "ProgressLines", "activity", "counted", "progress_lines", "tracked"]

_BARS = {80: 24, 60: 16, 40: 10, 0: 4}
"""Columns of a terminal -> characters of a bar, the widest terminal first."""
_REFRESHES = 5  # a second
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Line:
    """What one line shows.

    Args:
        parts: of its sentence, the most important first.
        done: how much is done.
        total: of how much; None while that is not known.
        timed: whether it says for how long it has been shown, after its first part.
    """

    parts: Sequence[str]
    done: float = 0.0
    total: float | None = None
    timed: bool = True

    def told(self, seconds: float | None) -> list[str]:
        """Its parts, with the time."""
        parts = [part for part in self.parts if part]
        return [*parts[:1], _clock(seconds), *parts[1:]] if self.timed and seconds is not None else parts


class ProgressLines(Protocol):
    """Where lines are shown."""

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Take them away."""

    def refresh(self) -> None:
        """Show the last state at once."""

    def show(self, lines: Sequence[Line]) -> None:
        """Replace what is shown."""


def progress_lines(console: Console, clock: Callable[[], float] = time.monotonic) -> ProgressLines | None:
    """Lines on a console that can show them; None on any other.

    Args:
        console: where.
        clock: seconds since any fixed moment.
    """
    if isinstance(console, NotebookConsole):
        return NotebookLines(clock)
    return TerminalLines(console, clock) if is_live(console) else None


@contextmanager
def activity(console: Console, text: str) -> Iterator[None]:
    """Say what is being done while it is, where nothing else is shown; a notebook and a log do without.

    Args:
        console: where.
        text: in a word or two.
    """
    lines = TerminalLines(console, time.monotonic) if is_live(console) else None
    if lines is None:
        yield
        return
    lines.show([Line((text,))])
    lines.start()
    try:
        yield
    finally:
        lines.stop()


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much of something is done, as a call of what is yielded says: so much, of so much.

    Args:
        console: where.
        what: is being done, in a word or two.
    """
    lines = progress_lines(console)
    if lines is None:
        yield lambda done, total: None
        return
    lines.show([Line((what,))])
    lines.start()
    try:
        yield lambda done, total: lines.show([Line((what, f"{done} of {total}"), done, total)])
    finally:
        lines.stop()


def tracked(console: Console, items: Sequence[_Item], what: str) -> Iterator[_Item]:
    """Items one after another, with a line that says how far one has come.

    Args:
        console: where.
        items: to be worked on.
        what: one of them is, such as `round`.
    """
    lines, begun = progress_lines(console), time.monotonic()
    if lines is None:
        yield from items
        return
    lines.show([Line((f"{what} 0 of {len(items)}",), 0, len(items))])
    lines.start()
    try:
        for number, item in enumerate(items, start=1):
            yield item
            left = (time.monotonic() - begun) / number * (len(items) - number)
            rest = f"about {left:.0f} s left" if left >= 1 else ""
            lines.show([Line((f"{what} {number} of {len(items)}", rest), number, len(items))])
    finally:
        lines.stop()


class TerminalLines:
    """Lines at the bottom of a terminal, gone when they stop.

    Args:
        console: the terminal.
        clock: seconds since any fixed moment.
    """

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self.progress = _Lines(console=console, get_time=clock, transient=True, refresh_per_second=_REFRESHES)
        self._ids: list[TaskID] = []

    def start(self) -> None:
        """See `ProgressLines`."""
        self.progress.start()

    def stop(self) -> None:
        """See `ProgressLines`."""
        self.progress.stop()

    def refresh(self) -> None:
        """See `ProgressLines`."""
        self.progress.refresh()

    def show(self, lines: Sequence[Line]) -> None:
        """See `ProgressLines`."""
        for line in lines[len(self._ids) :]:
            self._ids.append(self.progress.add_task("", total=line.total, completed=int(line.done), line=line))
        while len(self._ids) > len(lines):
            self.progress.remove_task(self._ids.pop())
        for task, line in zip(self._ids, lines, strict=True):
            self.progress.update(task, completed=line.done, total=line.total, line=line)


class NotebookLines:
    """The first line in the output of a notebook's cell; what it said last stays.

    Args:
        clock: seconds since any fixed moment.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = self._shown = clock()
        self._line = Line(())
        self._handle: Any = None

    def start(self) -> None:
        """See `ProgressLines`."""
        notebook: Any = import_module("IPython.display")
        self._handle = notebook.display(notebook.HTML(self._html()), display_id=True)

    def stop(self) -> None:
        """See `ProgressLines`."""
        self.refresh()

    def refresh(self) -> None:
        """See `ProgressLines`."""
        self._shown = self._clock()
        if self._handle is not None:
            self._handle.update(import_module("IPython.display").HTML(self._html()))

    def show(self, lines: Sequence[Line]) -> None:
        """See `ProgressLines`."""
        self._line = lines[0] if lines else Line(())
        if self._clock() - self._shown >= 1 / _REFRESHES:
            self.refresh()

    def _html(self) -> str:
        line = self._line
        share = "" if line.total is None else f' value="{line.done:g}" max="{max(line.total, 1):g}"'
        text = html.escape(", ".join(line.told(self._clock() - self._begun)))
        return f'<div><progress{share} style="vertical-align: middle"></progress> {text}</div>'


class _Lines(Progress):
    def get_renderables(self) -> Iterator[RenderableType]:
        """A line for each task."""
        yield from (_Drawn(task) for task in self.tasks)


class _Drawn:
    def __init__(self, task: Task) -> None:
        self.task = task

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        task, width = self.task, options.max_width
        room = next(bar for least, bar in _BARS.items() if width >= least)
        bar = ProgressBar(task.total, task.completed, room, pulse=task.total is None, animation_time=task.get_time())
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=room)
        table.add_column(no_wrap=True)
        line: Line = task.fields["line"]
        table.add_row(bar, Text(_fitted(line.told(task.elapsed or 0.0), width - room - 2)))
        yield table


def _fitted(parts: Sequence[str], room: int) -> str:
    """As many parts as there is room for, the first ones first; of a first one that is too long, whole words."""
    if not parts:
        return ""
    text = parts[0]
    while len(text) > room and " " in text:
        text = text.rpartition(" ")[0].rstrip(",")
    for part in parts[1:]:
        if len(text) + 2 + len(part) <= room:
            text = f"{text}, {part}"
    return text if len(text) <= room else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
