"""`fedsec scenarios`: the scenarios that come with fedsec."""

from dataclasses import asdict
from typing import Annotated

import typer

from fedsec.cli.machine import print_json

__all__ = ["scenarios"]


def scenarios(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the scenarios that come with fedsec: what each shows, its cells, and the datasets it needs."""
    from fedsec.data import status
    from fedsec.scenario.shipped import shipped_scenarios, summary

    present = {item.name: item.present for item in status()}
    summaries = [summary(path) for path in shipped_scenarios().values()]
    if as_json:
        datasets = [[{"name": name, "present": present.get(name, False)} for name in s.datasets] for s in summaries]
        print_json([{**asdict(item), "datasets": needed} for item, needed in zip(summaries, datasets, strict=True)])
        return

    from rich.console import Console

    from fedsec.cli.display.tables import Column, print_note, print_table

    console = Console()
    rows = []
    for item in summaries:
        datasets_shown = [name if present.get(name) else f"{name} (missing)" for name in item.datasets]
        takes = item.duration.partition(" on ")[0]
        rows.append((item.name, item.shows, str(item.cells), ", ".join(datasets_shown), takes))
    columns = (
        Column("scenario"),
        Column("what it shows", comfort=28),
        Column("cells", right=True),
        Column("data", comfort=14),
        Column("takes", comfort=16),
    )
    print_table(console, "", columns, rows)
    if missing := sorted({name for item in summaries for name in item.datasets if not present.get(name)}):
        print_note(console, f"Missing data: fedsec data status tells how to get {', '.join(missing)}.")
    print_note(console, "fedsec run NAME runs one; fedsec init --from NAME copies one to change it.")
