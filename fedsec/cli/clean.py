"""`fedsec clean`: make room, by removing what fedsec wrote and nothing else."""

import re
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fedsec.cli.completion import left_folders
from fedsec.cli.exits import FAILED
from fedsec.cli.runs import age_of
from fedsec.errors import FedsecError, InputError, count_of, printable, size_of

if TYPE_CHECKING:
    from fedsec.runs.folders.folder import LeftFolder

__all__ = ["clean"]

_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class What(StrEnum):
    """What is to go."""

    checkpoints = "checkpoints"
    models = "models"
    all = "all"


def clean(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]",
            help="Folders, or their names in runs/ and inversions/; see `fedsec runs`.",
            show_default="all of runs/ and inversions/",
            autocompletion=left_folders,
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="7d|12h|30m|2w", help="Only what was last written so long ago or longer.", show_default=False
        ),
    ] = None,
    what: Annotated[
        What,
        typer.Option(
            help="The checkpoints of finished cells, with which a run could be extended; their models; or everything "
            "that fedsec wrote."
        ),
    ] = What.checkpoints,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove checkpoints, models or everything that runs, inversions and recordings left.

    Files of others stay wherever they lie, and so does what is running now. It asks before anything goes.

    Exit codes: 0 done, 1 something could not be removed, 2 bad input.
    """
    from fedsec.runs.folders.folder import total_size
    from fedsec.runs.folders.search import named, usual_folders, without_repetitions

    oldest = None if older_than is None else time.time() - _seconds(older_than)
    folders = named(names) if names else without_repetitions(usual_folders())
    freed: list[tuple[LeftFolder, int]] = []
    for folder in folders:
        if folder.is_busy():
            typer.echo(f"{printable(str(folder.path))} is running now and stays as it is", err=True)
        elif (oldest is None or folder.kept.changed <= oldest) and (size := total_size(folder.owned(what.value))):
            freed.append((folder, size))
    if not freed:
        others = "" if what is What.all else "; --what all removes whole runs"
        typer.echo(f"nothing to remove{others}")
        return
    _show(freed, what.value)
    total = sum(size for _, size in freed)
    if dry_run:
        typer.echo(f"would free {size_of(total)}; nothing was removed")
        return
    if not yes:
        if not _somebody_reads():
            raise InputError("fedsec clean: nobody can be asked here; expected --yes, or --dry-run to look only")
        of = count_of(len(freed), "folder")
        if not typer.confirm(f"Remove {'everything' if what is What.all else what.value} of {of}?"):
            typer.echo("nothing was removed")
            return
    _remove([folder for folder, _ in freed], what)


def _somebody_reads() -> bool:
    return sys.stdin.isatty()


def _remove(folders: "list[LeftFolder]", what: What) -> None:
    total, failed = 0, 0
    for folder in folders:
        try:
            total += folder.remove(what.value)
        except (FedsecError, OSError) as error:
            failed += 1
            text = str(error) if isinstance(error, FedsecError) else f"{folder.path}: {error.strerror or error}"
            typer.echo(f"error: {printable(text)}", err=True)
            continue
        if what is What.all and folder.path.is_dir() and any(folder.path.iterdir()):
            typer.echo(f"{printable(str(folder.path))} stays: what lies there is not known to be fedsec's")
    typer.echo(f"freed {size_of(total)}")
    if failed:
        raise typer.Exit(FAILED)


def _show(freed: "list[tuple[LeftFolder, int]]", what: str) -> None:
    from rich.console import Console

    from fedsec.cli.display.tables import Column, print_table

    console = Console()
    columns = (Column("folder"), Column("frees", right=True), Column("of", right=True), Column("last written"))
    rows = [
        (printable(str(folder.path)), size_of(size), size_of(folder.kept.size), age_of(folder.kept.changed))
        for folder, size in freed
    ]
    print_table(console, "everything that fedsec wrote" if what == "all" else what, columns, rows)


def _seconds(text: str) -> float:
    """A duration as typed.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None:
        raise InputError(f"--older-than {text!r}: expected a number with m, h, d or w, such as 7d for a week")
    return float(match[1]) * _SECONDS[match[2]]
