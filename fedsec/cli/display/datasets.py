"""What `fedsec data` shows: where datasets are, and one being fetched."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from fedsec.cli.display.tables import Column, print_table
from fedsec.report.console import say

if TYPE_CHECKING:
    from fedsec.data import DatasetStatus

__all__ = ["fetch", "show_datasets"]


def show_datasets(datasets: Sequence["DatasetStatus"], *, places: bool) -> None:
    """Print where datasets are, or how to get them; with `places` also where they were looked for."""
    console = Console()
    rows = []
    for item in datasets:
        where = item.where or f"to get it: {item.how_to_get}"
        rows.append((item.name, "yes" if item.present else "no", where))
    print_table(console, "", (Column("name"), Column("present"), Column("where", comfort=36)), rows)
    for item in datasets if places else ():
        for place in item.looked_in:
            say(console, f"looked in {place}")


def fetch(name: str) -> None:
    """Load a dataset, which downloads it if it is nowhere, with a progress bar."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from fedsec.data import load

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file, total=total)
            progress.update(tasks[file], completed=done, total=total)

        dataset = load(name, progress=show)
    train, test = len(dataset.train), len(dataset.test)
    what = "images" if dataset.train.are_images else "examples"
    say(console, f"{name}: {train:,} + {test:,} {what}, {dataset.source}")
