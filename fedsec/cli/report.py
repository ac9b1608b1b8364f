"""`fedsec report`: a run as a page, or several against each other. Whatever is heavy is imported when it runs."""

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
            metavar="RUN [RUN ...]",
            help="A folder of a run or an inversion, such as runs/quickstart; of several runs, all are compared with "
            "the first.",
            show_default=False,
            autocompletion=run_folders,
        ),
    ],
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write the page.",
            show_default="report.html in the run's folder; comparison.html here for several",
        ),
    ] = None,
) -> None:
    """Write the page of a run or an inversion anew, or compare runs: one HTML file that needs nothing beside it."""
    from fedsec.runs.folders.page_file import PAGE, page_html, write_page

    if len(runs) > 1:
        from fedsec.cli.comparison import compared_html

        path = _written(Path() if out is None else out, compared_html(runs), "comparison.html")
    elif out is not None:
        path = _written(out, page_html(runs[0]), PAGE)
    else:
        html = page_html(runs[0])
        path = runs[0] / PAGE
        try:
            aside = write_page(runs[0], html)
        except (InputError, OSError) as error:
            raise InputError(f"{error}; --out FILE writes the page elsewhere") from error
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


def _written(out: Path, html: str, name: str) -> Path:
    """Write a page where it was asked for, under this name into a folder, over no file of others."""
    from fedsec.files import write_atomic
    from fedsec.runs.folders.page_file import is_page

    path = out / name if out.is_dir() else out
    if path.exists() and not is_page(path):
        raise InputError(f"{path}: is there already, and is no page of fedsec's; expected another name after --out")
    try:
        write_atomic(path, html)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror or error})") from error
    return path
