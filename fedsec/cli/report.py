"""`fedsec report`: a run as a page. Whatever is heavy is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from fedsec.cli.completion import run_folders
from fedsec.errors import InputError

__all__ = ["report", "show_page"]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="A folder of a run or an inversion, such as runs/quickstart.",
            show_default=False,
            autocompletion=run_folders,
        ),
    ],
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the page.", show_default="report.html in the run's folder"),
    ] = None,
) -> None:
    """Write the page of a run or an inversion anew: one HTML file that needs nothing beside it."""
    from fedsec.runs.folders.page_file import PAGE, page_html, write_page

    if len(runs) > 1:
        raise InputError(f"expected the folder of one run, got {len(runs)}")
    html = page_html(runs[0])
    if out is not None:
        path = _written(out, html)
    else:
        path = runs[0] / PAGE
        aside = write_page(runs[0], html)
        if aside is not None:
            typer.echo(f"note: {path} was no page of fedsec's; it is {aside} now", err=True)
    typer.echo(str(path))
    if open_page:
        show_page(path)


def show_page(path: Path) -> None:
    """Show a page in a browser, or say that there is none."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        typer.echo(f"no browser was found; open {path} yourself", err=True)


def _written(out: Path, html: str) -> Path:
    """Write a page where it was asked for, over no file of others."""
    from fedsec.files import write_atomic
    from fedsec.runs.folders.page_file import PAGE, is_page

    path = out / PAGE if out.is_dir() else out
    if path.exists() and not is_page(path):
        raise InputError(f"--out {path}: is there already, and is no page of fedsec's; expected another name")
    try:
        write_atomic(path, html)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror or error})") from error
    return path
