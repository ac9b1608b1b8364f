"""How lines reach a reader: whole words on a terminal, whole lines in a log, and no error for want of a letter.

One console for all commands: where it writes, whether it is quiet, and whether it shows colors. `NO_COLOR` and
`FORCE_COLOR` are about colors alone: a log that is to be colorful gets no line that moves.
"""

import os
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

__all__ = [
    "QUIET_SECONDS",
    "NotebookConsole",
    "QuietConsole",
    "closing_console",
    "default_console",
    "is_live",
    "open_console",
    "say",
    "spell_out_missing_letters",
]

QUIET_SECONDS = 10.0
"""Without a terminal, what is at work is heard of at most this often."""


class QuietConsole(Console):
    """Shows only what is said as essential.

    Args:
        essential: the console that shows it.
    """

    def __init__(self, essential: Console) -> None:
        super().__init__(quiet=True)
        self.essential = essential


class NotebookConsole(Console):
    """Plain lines in the output of a notebook's cell; results display themselves there, so nobody prints tables."""

    def __init__(self) -> None:
        super().__init__(file=sys.stdout, force_terminal=False, force_jupyter=False, color_system=None)


def open_console(*, quiet: bool = False, as_json: bool = False) -> Console:
    """The console of a command.

    Args:
        quiet: only what is essential is shown.
        as_json: standard output belongs to JSON, which says all that is essential; the rest is shown on a terminal's
            standard error, or nowhere.
    """
    console = _colored(sys.stderr if as_json else sys.stdout)
    if as_json and (quiet or not console.is_terminal):
        return Console(quiet=True)
    return QuietConsole(console) if quiet else console


def default_console(console: Console | None = None) -> Console:
    """The console that was given; else a notebook's, where this is one, or one that shows nothing."""
    if console is not None:
        return console
    return NotebookConsole() if _in_a_notebook() else Console(quiet=True)


def _in_a_notebook() -> bool:
    """Whether a kernel runs this code; that ipykernel was imported, as tests and servers do, says nothing."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def closing_console(console: Console) -> Console:
    """Where the end of something is reported: in a notebook its result shows itself, and only what is amiss is said."""
    return QuietConsole(console) if isinstance(console, NotebookConsole) else console


def _colored(stream: TextIO) -> Console:
    options: dict[str, Any] = {"stderr": stream is sys.stderr}
    if not stream.isatty() and os.environ.get("FORCE_COLOR") is not None:
        # Rich takes it for a terminal then, and moves the cursor.
        options["force_terminal"] = False
        if os.environ["FORCE_COLOR"] and not os.environ.get("NO_COLOR"):
            options["color_system"] = "standard"
    return Console(**options)


def say(console: Console, text: str, style: str = "", *, essential: bool = False) -> None:
    """Print a line: broken between words on a terminal, left whole elsewhere for those who search it.

    Args:
        console: where.
        text: the line; what cannot be printed, as in file names, is spelled out and steers no terminal.
        style: of rich.
        essential: whether even a quiet console shows it.
    """
    if essential and isinstance(console, QuietConsole):
        console = console.essential
    plain = "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
    if console.is_terminal:
        console.print(Text(plain, style), overflow="fold")
    else:
        console.print(Text(plain, style), soft_wrap=True)


def is_live(console: Console) -> bool:
    """Whether lines of it can change: a terminal that moves its cursor."""
    return console.is_terminal and not (console.quiet or console.is_dumb_terminal or console.is_jupyter)


def spell_out_missing_letters() -> None:
    """Let standard output and error spell out letters that their encoding lacks, instead of failing at them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")
