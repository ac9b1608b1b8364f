"""What the command line shows of tables, datasets and plans."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedsec.registry import Entry

if TYPE_CHECKING:
    from fedsec.data import DatasetStatus
    from fedsec.scenario import Scenario

_WIDE = 150
_MOST_ROWS = 200
_STYLES = {"options": "cyan", "paper": "dim", "work": "dim"}


def show_entries(title: str, entries: Iterable[Entry]) -> None:
    """Print what a scenario can name, with options and papers."""
    console = Console()
    rows = []
    for entry in entries:
        label = entry.name + (f" ({entry.plugin})" if entry.plugin else "")
        paper = "" if entry.paper.startswith("none") else entry.paper
        rows.append((label, entry.summary, ", ".join(map(str, entry.parameters)), paper))
    _print_table(console, title, ("name", "what it is", "options", "paper"), rows, stack=console.width < _WIDE)


def show_datasets(found: Sequence["DatasetStatus"], *, places: bool) -> None:
    """Print where datasets are, or how to get them; with `places` also where they were looked for."""
    console = Console()
    rows = []
    for item in found:
        where = item.where or f"to get it: {item.how_to_get}"
        rows.append((item.name, "yes" if item.present else "no", where))
    _print_table(console, "datasets", ("name", "present", "where"), rows)
    for item in found if places else ():
        for place in item.looked_in:
            console.print(f"looked in {place}", markup=False, highlight=False, soft_wrap=True)


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
    train, test = len(dataset.train.labels), len(dataset.test.labels)
    console.print(f"{name}: {train:,} + {test:,} images, {dataset.source}", markup=False, soft_wrap=True)


def show_plan(scenario: "Scenario") -> None:
    """Print a scenario's cells, what each will do, and the work they make."""
    from fedsec.scenario.plan import plan, rounded

    console = Console()
    made, cells = plan(scenario), scenario.cells()
    rows = []
    for index, cell in enumerate(cells[:_MOST_ROWS]):
        work = made.work[index]
        clients = cell.config.partition.clients
        byzantine = (
            "centralized" if cell.config.pooled else f"{cell.config.attack.count(clients)} of {clients} Byzantine"
        )
        what = f"{work.clients} x {work.rounds} x {work.steps:.4g} x {work.batch:.4g}" if work else "unknown"
        adds = f"{rounded(made.gradients(index))} gradients"
        if made.shared[index]:
            new = made.trainings[index]
            adds = f"trains {new} clients, {adds}" if new else "shares all its training"
        rows.append((cell.id, str(cell), f"{byzantine}; {what}; {adds}"))
    title = f"{scenario.name}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    _print_table(console, title, ("id", "cell", "work"), rows, stack=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    if len(cells) > _MOST_ROWS:
        say(f"... and {len(cells) - _MOST_ROWS} more cells")
    say(f"work: clients x rounds x steps x batch; {rounded(made.total)} example gradients in all, without evaluations")
    if any(made.shared):
        needed = sum(cell.config.cohort for cell, shared in zip(cells, made.shared, strict=True) if shared)
        say(
            "shared: one-round cells that differ only in defense or attackers train the same clients once: "
            f"{sum(made.trainings)} trainings instead of {needed}"
        )
    for expectation in scenario.expectations:
        say(f"expects: {expectation}")
    for note in made.notes:
        say(f"note: {note}")


def _print_table(
    console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, stack: bool = False
) -> None:
    """A table whose first column is never broken; empty columns are left out.

    Args:
        console: where to.
        title: above the table.
        headers: of the columns.
        rows: cells as text.
        stack: put all columns but the first below each other, for narrow terminals.
    """
    kept = [index for index in range(len(headers)) if any(row[index] for row in rows)]
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.show_header = not stack
    table.add_column(headers[0], no_wrap=True)
    if stack:
        table.box = None
        table.add_column()
    else:
        for index in kept[1:]:
            table.add_column(headers[index], overflow="fold")
    for row in rows:
        parts = [
            Text(row[index], style=_STYLES.get(headers[index], "")) for index in kept[1:] if row[index] or not stack
        ]
        table.add_row(Text(row[0]), *([Text("\n").join(parts)] if stack else parts))
    console.print(table)
    console.print()
