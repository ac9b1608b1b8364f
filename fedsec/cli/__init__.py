"""The `fedsec` command."""

from fedsec.cli.commands import app, main

__all__ = ["app", "main"]
