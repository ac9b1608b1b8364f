"""What is printed for machines: one JSON document on standard output."""

from typing import Any

import typer

__all__ = ["print_json"]


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import json

    typer.echo(json.dumps(value, indent=2, default=str))
