"""`fedsec list`: what scenarios can name."""

from typing import Annotated

import typer

from fedsec.cli.machine import print_json
from fedsec.cli.options import names_of
from fedsec.errors import InputError

__all__ = ["list_"]


_KINDS = (
    *("attacks", "inversions", "inferences", "defenses", "datasets", "models", "partitions"),
    *("algorithms", "tasks", "metrics"),
)
"""What can be listed, in this order."""


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in _KINDS if kind.startswith(incomplete)]


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help=f"What to list, everything by default: {', '.join(_KINDS)}.",
            autocompletion=_kinds,
            show_default=False,
        ),
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
    """List what scenarios can name: attacks, inversions, inferences, defenses, models, ..., with options and papers."""
    from fedsec.plugins import registry

    if kind is not None and kind not in _KINDS:
        close = registry.nearest(kind, _KINDS)
        hint = f" (did you mean {close!r}?)" if close else ""
        raise InputError(f"fedsec list: unknown kind {kind!r}{hint}; known: {', '.join(_KINDS)}")
    if dataset is not None:
        if kind != "models":
            raise InputError("fedsec list --dataset: goes with models only (fedsec list models --dataset NAME)")
        _list_costs(dataset, as_json=as_json)
        return
    kinds = [kind] if kind else _KINDS
    tables = {listed: registry.entries(listed.removesuffix("s")) for listed in kinds}
    if as_json:
        print_json({name: [entry.as_json() for entry in entries.values()] for name, entries in tables.items()})
        return

    from fedsec.cli.display.listing import point_to_show, show_entries

    for name, entries in tables.items():
        show_entries(name, entries.values())
    point_to_show(next(iter(tables[kind]), "") if kind else "krum")


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
