"""`fedsec run`: its options as typed. Whatever is heavy is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from fedsec.cli.completion import scenario_names
from fedsec.cli.exits import FAILED, INTERRUPTED
from fedsec.cli.machine import print_json
from fedsec.cli.option_words import in_option_words, option_words
from fedsec.cli.options import Device
from fedsec.errors import InputError

__all__ = ["run"]

_PARAMETERS = (
    *("workers", "device", "fresh", "keep", "record", "ray", "memory_gib"),
    *("cpus_per_cell", "gpus_per_cell", "memory_per_cell", "actors_per_cell"),
)
"""Of `fedsec.run`, those that are options here."""


def run(
    scenario: Annotated[
        str,
        typer.Argument(
            help="A scenario file, or the name of a scenario that comes with fedsec, such as quickstart.",
            autocompletion=scenario_names,
            show_default=False,
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="")] = None,
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=VALUE",
            help="Replace a setting; the value is YAML. Repeatable.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="one a core")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and their work; run nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run left.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Take what other code, data or versions left, instead of running it again.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Record what each cell's server receives into DIR/<cell id>, for `fedsec replay`.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="Run the cells on a Ray cluster: one that is announced or running here (or else one started for this "
            "run), or the one whose head has this address.",
            show_default=False,
        ),
    ] = None,
    cpus_per_cell: Annotated[
        int | None, typer.Option(help="With --ray: cores of a cell, and its threads.", show_default="as without Ray")
    ] = None,
    gpus_per_cell: Annotated[
        float | None, typer.Option(help="With --ray: GPUs of a cell, or a part of one.", show_default="none")
    ] = None,
    memory_per_cell: Annotated[
        float | None, typer.Option(help="With --ray: GiB of a cell.", show_default="estimated")
    ] = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(
            help="GiB that a cell's matrix of a round's updates may take; larger ones pass the rule by or lie on disk.",
            show_default="what is free",
        ),
    ] = None,
    actors_per_cell: Annotated[
        int | None,
        typer.Option(
            help="With --ray: run one cell after another, the clients of its rounds on so many actors, for models of "
            "which one round does not fit one machine.",
            show_default="none",
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="tensorboard[:DIR]|mlflow[:URI]",
            help="Log rounds and results as they come, beside the run's folder. Repeatable.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Show all rows of long tables, instead of the most telling ones.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show only what went wrong, and where the results are.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as one JSON object and nothing else.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Show the report in a browser at the end.")] = False,
) -> None:
    """Run a scenario, or finish one that was interrupted.

    Exit codes: 0 done and expectations met, 1 a cell or an expectation failed, 2 bad input, 130 interrupted.
    """
    if more:
        raise InputError(
            f"fedsec run takes one scenario, got {len(more) + 1}: {scenario} and {' and '.join(more)}; expected a "
            "command for each (fedsec validate takes several)"
        )
    from fedsec.report.console import open_console
    from fedsec.report.progress_lines import activity

    console = open_console(quiet=quiet, as_json=as_json)
    with activity(console, "reading the scenario"):
        from fedsec import runs
        from fedsec.scenario import load_scenario

        loaded = load_scenario(scenario, overrides or [])

    for expectation in loaded.set_aside:
        typer.echo(f"set aside, since --set leaves no such cell: {expectation}", err=True)
    if dry_run and as_json:
        raise InputError("--json: prints what a run came to; expected no --dry-run beside it")
    if dry_run:
        from fedsec.cli.display.plan_table import show_plan
        from fedsec.runs.datasets import look
        from fedsec.runs.space import shared_space
        from fedsec.scenario.plan import check_scenario

        check_scenario(loaded)
        datasets = look(loaded)
        show_plan(loaded, shared_space(loaded, datasets))
        notes = list(datasets.notes)
        if actors_per_cell is not None:
            from fedsec.runs.sharded.plan import notes_on_actors

            words = {name: f"--{name.replace('_', '-')}" for name in _PARAMETERS}
            notes += [option_words(note, words) for note in notes_on_actors(loaded.cells())]
        for note in notes:
            typer.echo(f"note: {note}")
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is not a folder")

    with in_option_words(_PARAMETERS):
        result = runs.run(
            loaded,
            out=out,
            workers=workers,
            device=device.value,
            fresh=fresh,
            keep=keep,
            console=console,
            record=record,
            ray=ray,
            cpus_per_cell=cpus_per_cell,
            gpus_per_cell=gpus_per_cell,
            memory_per_cell=memory_per_cell,
            memory_gib=memory_gib,
            actors_per_cell=actors_per_cell,
            full=full,
            log=log,
        )
    if open_page:
        from fedsec.cli.report import show_page
        from fedsec.runs.folders.page_file import PAGE

        if (page := result.root / PAGE).is_file():  # that there is none was said
            show_page(page)
    code = INTERRUPTED if result.interrupted else FAILED if result.failures or result.unmet else 0
    if as_json:
        print_json({**result.as_json(), "exit_code": code})
    if code:
        raise typer.Exit(code)
