"""`fedsec runs`: what runs, inversions and recordings left, and how they ended."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsec.cli.machine import print_json
from fedsec.errors import printable, size_of

if TYPE_CHECKING:
    from fedsec.runs.folders.folder import LeftFolder

__all__ = ["age_of", "runs"]

_UNITS = ((7 * 86400, "week", "weeks"), (86400, "day", "days"), (3600, "h", "h"), (60, "min", "min"))


def runs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Where to look: a folder of runs, of inversions or of recordings, or one of these.",
            show_default="runs and inversions",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List what runs, inversions and recordings left: how each ended, its size and its age."""
    from fedsec.runs.folders.search import USUAL, folders_in, usual_folders

    folders = usual_folders() if folder is None else folders_in(folder)
    if as_json:
        print_json([_as_json(item) for item in folders])
        return
    if not folders:
        where = " or ".join(f"{place}/" for place in USUAL) if folder is None else str(folder)
        typer.echo(f"nothing in {printable(where)} yet; fedsec run quickstart leaves something to look at")
        return

    from rich.console import Console

    from fedsec.cli.display.tables import Column, print_note, print_table

    console = Console()
    rows = [
        (
            printable(str(item.path)),
            str(item.state()),
            size_of(item.kept.size),
            age_of(item.kept.changed),
            printable(item.about()).split(". ")[0],
        )
        for item in folders
    ]
    columns = (
        Column("folder"),
        Column("state", comfort=12),
        Column("size", right=True, comfort=7),
        Column("written", comfort=10),
        Column("what it was for", comfort=24, optional=True),
    )
    print_table(console, "", columns, rows)
    if any(item.state().word == "interrupted" and item.kind == "run" for item in folders):
        print_note(console, "What was interrupted goes on with the same fedsec run.")
    print_note(console, "fedsec clean NAME removes one, or its checkpoints.")


def age_of(changed: float) -> str:
    """How long ago something was written: `3 days ago`.

    Args:
        changed: in seconds since 1970.
    """
    seconds = time.time() - changed
    for size, one, several in _UNITS:
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {one if number == 1 else several} ago"
    return "just now"


def _as_json(item: "LeftFolder") -> dict[str, Any]:
    state = item.state()
    return {
        "folder": str(item.path),
        "kind": item.kind,
        "state": state.word,
        "finished": state.finished,
        "planned": state.planned,
        "failed": state.failed,
        "bytes": item.kept.size,
        "changed": item.kept.changed,
        "about": item.about(),
    }
