"""`fedsec report` with several runs: printed in short, and written whole. Imported where runs are compared."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedsec.report.comparison.page import comparison_page
from fedsec.report.comparison.run_comparison import ComparedRun, compare_runs, names_of
from fedsec.report.comparison.terminal import lines_of, table_of
from fedsec.report.console import say
from fedsec.report.page import render
from fedsec.runs.folders.stored_run import open_run

__all__ = ["compared_html"]


def compared_html(folders: Sequence[Path]) -> str:
    """The page that compares runs with the first; the most of it is printed.

    Args:
        folders: of the runs.

    Raises:
        InputError: one is no run, or has no cell in common with the first.
    """
    stored = [open_run(folder) for folder in folders]
    names = names_of([run.root for run in stored])
    compared = [ComparedRun(name, run.root, run.records) for name, run in zip(names, stored, strict=True)]
    comparisons = [compare_runs(compared[0], other) for other in compared[1:]]
    page = render(comparison_page(comparisons))
    console = Console()
    for comparison in comparisons:
        for line in lines_of(comparison):
            say(console, line)
        console.print(table_of(comparison, console.width))
    return page
