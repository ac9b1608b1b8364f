"""The `fedsec` command. Whatever is heavy is imported inside the command that needs it."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fedsec import __version__
from fedsec.cli.invert import invert
from fedsec.cli.options import Device, PlainCommand, names_of, without_flag_types
from fedsec.cli.replay import replay
from fedsec.errors import FedsecError, InputError, ScenarioError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class _Commands(TyperGroup):
    """Turns deliberate errors into one clear message and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        from fedsec.report.console import spell_out_missing_letters

        spell_out_missing_letters()
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            text = error.message.removeprefix("Value error, ")  # which pydantic says to programmers
            if text == error.message:
                raise
            raise typer.BadParameter(text, error.ctx, error.param, error.param_hint) from error
        except InputError as error:
            _complain(error)
            raise typer.Exit(BAD_INPUT) from error
        except (FedsecError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            _complain(error)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


def _complain(error: Exception) -> None:
    text = str(error).replace("\n", "\nerror: ") if isinstance(error, ScenarioError) else str(error)
    typer.echo(f"error: {text}", err=True)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What can an attacker do to a federation, and what does each defense buy and cost?",
)


class ListedKind(StrEnum):
    """What can be listed."""

    attacks = "attacks"
    inversions = "inversions"
    defenses = "defenses"
    datasets = "datasets"
    models = "models"
    partitions = "partitions"
    algorithms = "algorithms"
    tasks = "tasks"
    metrics = "metrics"


class DataAction(StrEnum):
    """What to do about datasets."""

    status = "status"
    fetch = "fetch"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedsec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _scenarios(incomplete: str) -> list[str]:
    """For shell completion: folders, YAML files and the scenarios that come with fedsec."""
    from fedsec.scenario.shipped import shipped_scenarios

    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir() or path.suffix in (".yaml", ".yml"))
    except OSError:
        paths = []
    names = [f"{path}/" if path.is_dir() else str(path) for path in paths if not path.name.startswith(".")]
    names += [name for name in shipped_scenarios() if name not in names]
    return [name for name in names if name.startswith(incomplete)]


@app.command(cls=PlainCommand)
def run(
    scenario: Annotated[
        str,
        typer.Argument(
            help="A scenario file, or the name of a scenario that comes with fedsec, such as quickstart.",
            autocompletion=_scenarios,
            show_default=False,
        ),
    ],
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
    full: Annotated[
        bool, typer.Option("--full", help="Show all rows of long tables, instead of the most telling ones.")
    ] = False,
) -> None:
    """Run a scenario, or finish one that was interrupted.

    Exit codes: 0 done and expectations met, 1 a cell or an expectation failed, 2 bad input, 130 interrupted.
    """
    from fedsec.scenario import load_scenario

    loaded = load_scenario(scenario, overrides or [])

    for expectation in loaded.set_aside:
        typer.echo(f"set aside, since --set leaves no such cell: {expectation}", err=True)
    if dry_run:
        from fedsec.cli.listing import show_plan
        from fedsec.runs.datasets import look
        from fedsec.runs.space import shared_space
        from fedsec.scenario.plan import check_scenario

        check_scenario(loaded)
        datasets = look(loaded)
        show_plan(loaded, shared_space(loaded, datasets))
        notes = list(datasets.notes)
        if actors_per_cell is not None:
            from fedsec.runs.sharded.plan import notes_on_actors

            notes += notes_on_actors(loaded.cells())
        for note in notes:
            typer.echo(f"note: {note}")
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is not a folder")

    from rich.console import Console

    from fedsec import runs

    result = runs.run(
        loaded,
        out=out,
        workers=workers,
        device=device.value,
        fresh=fresh,
        keep=keep,
        console=Console(),
        record=record,
        ray=ray,
        cpus_per_cell=cpus_per_cell,
        gpus_per_cell=gpus_per_cell,
        memory_per_cell=memory_per_cell,
        memory_gib=memory_gib,
        actors_per_cell=actors_per_cell,
        full=full,
    )
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.failures or result.unmet:
        raise typer.Exit(FAILED)


app.command(cls=PlainCommand)(invert)
app.command(cls=PlainCommand)(replay)


@app.command("list", cls=PlainCommand)
def list_(
    kind: Annotated[
        ListedKind | None, typer.Argument(help="What to list; everything by default.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="With models: what each costs on this dataset's images.",
            show_default=False,
            autocompletion=names_of("dataset"),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List what scenarios can name: attacks, inversions, defenses, models, ..., with options and papers."""
    from fedsec.plugins import registry

    if dataset is not None:
        if kind is not ListedKind.models:
            raise InputError("fedsec list --dataset: goes with models only (fedsec list models --dataset NAME)")
        _list_costs(dataset, as_json=as_json)
        return
    kinds = [kind] if kind else list(ListedKind)
    tables = {listed.value: registry.entries(listed.value.removesuffix("s")) for listed in kinds}
    if as_json:
        _print_json({name: [entry.as_json() for entry in entries.values()] for name, entries in tables.items()})
        return

    from fedsec.cli.listing import show_entries

    for name, entries in tables.items():
        show_entries(name, entries.values())


@app.command(cls=PlainCommand)
def data(
    action: Annotated[DataAction, typer.Argument(help="What to do.")] = DataAction.status,
    name: Annotated[
        str | None,
        typer.Argument(help="A dataset, for fetch.", show_default=False, autocompletion=names_of("dataset")),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show which datasets are present and where, and how to get the rest; or fetch one."""
    from fedsec.plugins import registry

    if action is DataAction.fetch:
        if name is None:
            raise InputError("fedsec data fetch: expected the name of a dataset (see fedsec list datasets)")
        from fedsec.cli.listing import fetch

        registry.entry("dataset", name)
        fetch(name)
        return

    from fedsec.data import status

    if name is not None:
        registry.entry("dataset", name)
    datasets = [item for item in status() if name in (None, item.name)]
    if as_json:
        _print_json([dict(vars(item)) for item in datasets])
        return

    from fedsec.cli.listing import show_datasets

    show_datasets(datasets, places=name is not None)


@app.command(cls=PlainCommand)
def schema() -> None:
    """Print the JSON Schema of a scenario file, for editor completion."""
    from fedsec.scenario.schema import scenario_schema

    _print_json(scenario_schema())


def _list_costs(dataset: str, *, as_json: bool) -> None:
    from fedsec.cli.listing import fixed_shape, show_costs

    input_shape, num_classes = fixed_shape(dataset)

    from fedsec.models.catalog import CLIENT, catalog, edge_ratios

    listed = catalog(input_shape, num_classes)
    ratios = edge_ratios(listed)
    if not as_json:
        show_costs(dataset, input_shape, num_classes, listed, ratios)
        return
    where = {"dataset": dataset, "input_shape": list(input_shape), "num_classes": num_classes}
    edge = {"client": CLIENT, "networks": [ratio.as_json() for ratio in ratios]}
    _print_json({**where, "models": [item.as_json() for item in listed], "edge": edge})


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, default=str))
