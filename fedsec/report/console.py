"""How lines reach a reader: whole words on a terminal, whole lines in a log, and no error for want of a letter."""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

QUIET_SECONDS = 10.0
"""Without a terminal, what is at work is heard of at most this often."""


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line: broken between words on a terminal, left whole elsewhere for those who search it.

    Args:
        console: where.
        text: the line; what cannot be printed, as in file names, is spelled out and steers no terminal.
        style: of rich.
    """
    plain = "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
    if console.is_terminal:
        console.print(Text(plain, style), overflow="fold")
    else:
        console.print(Text(plain, style), soft_wrap=True)


def spell_out_missing_letters() -> None:
    """Let standard output and error spell out letters that their encoding lacks, instead of failing at them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def bars(console: Console, clock: Callable[[], float]) -> Progress | None:
    """Live lines of a bar, the time since it began, a name and a reading; None where no terminal shows them.

    Args:
        console: where; tasks have a field `reading`.
        clock: seconds since any fixed moment.
    """
    if not console.is_terminal or console.quiet or console.is_dumb_terminal or console.is_jupyter:
        return None
    return Progress(
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[reading]}", markup=False),
        console=console,
        get_time=clock,
        transient=True,
        refresh_per_second=5,
    )
