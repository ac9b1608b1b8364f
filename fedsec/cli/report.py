"""`fedsec report`: a run as a page."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as runs/quickstart.", show_default=False)],
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
) -> None:
    """Write a run's page anew: report.html in its folder, one file that needs nothing beside it."""
    from fedsec.files import write_atomic
    from fedsec.report.page import RunView, render, run_page
    from fedsec.runs.folders.stored_run import open_run

    stored = open_run(run)
    path = run / "report.html"
    write_atomic(path, render(run_page(RunView(stored.root, stored.records, stored.summary))))
    typer.echo(str(path))
    if open_page:
        typer.launch(str(path))
