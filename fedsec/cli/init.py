"""`fedsec init`: a scenario of one's own to begin with."""

import re
from pathlib import Path
from typing import Annotated

import typer

from fedsec.cli.completion import scenario_names
from fedsec.errors import InputError

__all__ = ["init"]

_NAME = re.compile(r"[a-z0-9_-]{1,100}")


def init(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Of the scenario; NAME.yaml is written.",
            show_default="my_scenario, or my_<the scenario that --from names>",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SCENARIO",
            help="Copy a file, or a scenario that comes with fedsec, in place of the commented starter.",
            autocompletion=scenario_names,
            show_default=False,
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write schema.json beside it, by which editors complete and check.")
    ] = False,
) -> None:
    """Write a scenario to begin with: a commented one that runs in seconds, or a copy of another one.

    Nothing that is there already is overwritten.
    """
    from fedsec.plugins.registry import nearest
    from fedsec.scenario.shipped import find_scenario, shipped_scenarios
    from fedsec.scenario.starter import adopted, starter

    origin = None if source is None else find_scenario(source)
    if name is None:
        name = "my_scenario" if origin is None else f"my_{origin.stem}"
    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not _NAME.fullmatch(path.stem):
        raise InputError(
            f"fedsec init {name}: expected a name of lower-case letters, digits, _ and -, got {path.stem!r}"
        )
    if origin is None:
        text = starter(path.stem, str(path), schema=schema)
    else:
        try:
            text = adopted(origin, path.stem, schema=schema)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--from {source}: cannot be read as text ({error})") from error
    _write_new(path, text)
    typer.echo(f"wrote {path}")
    if origin is None and (close := nearest(path.stem, shipped_scenarios())) is not None and name != "my_scenario":
        typer.echo(f"It is the commented starter; the {close!r} that comes with fedsec: fedsec init --from {close}")
    if schema:
        _write_schema(path.with_name("schema.json"))
    for command in (f"fedsec validate {path}", f"fedsec run {path} --dry-run", f"fedsec run {path}"):
        typer.echo(f"  {command}")
    if not schema:
        typer.echo("With --schema your editor completes and explains the keys.")


def _write_new(path: Path, text: str) -> None:
    """Write a file where none is."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path}: is there already and stays as it is; expected another NAME") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no folder {path.parent}; expected one that exists") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write_schema(path: Path) -> None:
    """Write the schema, plugins of this environment included; one that is there is taken as it is."""
    import json

    from fedsec.scenario.schema import scenario_schema

    if path.exists():
        typer.echo(f"{path} is there already and stays as it is; fedsec schema prints the current one")
        return
    _write_new(path, json.dumps(scenario_schema(), indent=2) + "\n")
    typer.echo(f"wrote {path}")
