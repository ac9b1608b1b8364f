"""`fedsec list`: what scenarios can name."""

from enum import StrEnum
from typing import Annotated

import typer

from fedsec.cli.machine import print_json
from fedsec.cli.options import names_of
from fedsec.errors import InputError

__all__ = ["list_"]


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
        print_json({name: [entry.as_json() for entry in entries.values()] for name, entries in tables.items()})
        return

    from fedsec.cli.display.listing import point_to_show, show_entries

    for name, entries in tables.items():
        show_entries(name, entries.values())
    point_to_show(next(iter(tables[kind.value]), "") if kind else "krum")


def _list_costs(dataset: str, *, as_json: bool) -> None:
    from fedsec.cli.display.model_costs import fixed_shape, show_costs

    input_shape, num_classes = fixed_shape(dataset)

    from fedsec.models.catalog import CLIENT, catalog, edge_ratios

    listed = catalog(input_shape, num_classes)
    ratios = edge_ratios(listed)
    if not as_json:
        show_costs(dataset, input_shape, num_classes, listed, ratios)
        return
    where = {"dataset": dataset, "input_shape": list(input_shape), "num_classes": num_classes}
    edge = {"client": CLIENT, "networks": [ratio.as_json() for ratio in ratios]}
    print_json({**where, "models": [item.as_json() for item in listed], "edge": edge})
