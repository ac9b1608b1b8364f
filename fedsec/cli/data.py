"""`fedsec data`: which datasets are here, and how to get the others."""

from enum import StrEnum
from typing import Annotated

import typer

from fedsec.cli.machine import print_json
from fedsec.cli.options import names_of
from fedsec.errors import InputError

__all__ = ["data"]


class DataAction(StrEnum):
    """What to do about datasets."""

    status = "status"
    fetch = "fetch"


def data(
    action: Annotated[
        DataAction, typer.Argument(metavar="[ACTION]", help="What to do: status, or fetch.")
    ] = DataAction.status,
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
        from fedsec.cli.display.datasets import fetch

        registry.entry("dataset", name)
        fetch(name)
        return

    from fedsec.data import status

    if name is not None:
        registry.entry("dataset", name)
    datasets = [item for item in status() if name in (None, item.name)]
    if as_json:
        print_json([dict(vars(item)) for item in datasets])
        return

    from fedsec.cli.display.datasets import show_datasets

    show_datasets(datasets, places=name is not None)
