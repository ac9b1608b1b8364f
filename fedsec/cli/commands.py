"""The `fedsec` command. Whatever is heavy is imported inside the command that needs it."""

import errno
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fedsec import __version__
from fedsec.cli.audit import audit
from fedsec.cli.clean import clean
from fedsec.cli.data import data
from fedsec.cli.examples import epilog
from fedsec.cli.exits import BAD_INPUT, FAILED, INTERRUPTED
from fedsec.cli.export import export
from fedsec.cli.init import init
from fedsec.cli.invert import invert
from fedsec.cli.list import list_
from fedsec.cli.options import PlainCommand, without_flag_types
from fedsec.cli.replay import replay
from fedsec.cli.report import report
from fedsec.cli.run import run
from fedsec.cli.runs import runs
from fedsec.cli.scenarios import scenarios
from fedsec.cli.schema import schema
from fedsec.cli.show import show
from fedsec.cli.validate import validate
from fedsec.errors import FedsecError, InputError, ScenarioError, printable


class _Commands(TyperGroup):
    """Turns deliberate errors into one clear message and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is typed first.

        Raises:
            InputError: there is none of this name; the text names the nearest one.
        """
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            from fedsec.plugins.registry import nearest

            close = nearest(args[0], names)
            hint = f" (did you mean {close!r}?)" if close else ""
            raise InputError(f"unknown command {args[0]!r}{hint}; known: {', '.join(names)}; see fedsec --help")
        return super().resolve_command(ctx, args)

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
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                typer.echo("Make room (fedsec clean helps), then the same command goes on where it was.", err=True)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


def _complain(error: Exception) -> None:
    text = str(error).replace("\n", "\nerror: ") if isinstance(error, ScenarioError) else str(error)
    if isinstance(error, OSError) and error.strerror:
        text = printable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    typer.echo(f"error: {text}", err=True)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What can an attacker do to a federation, and what does each defense buy and cost?",
    epilog="A first look: [bold]fedsec run quickstart[/bold]. Your own: [bold]fedsec init[/bold].",
)


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


_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "To begin": {"init": init, "scenarios": scenarios, "validate": validate},
    "Experiments": {"audit": audit, "run": run, "invert": invert, "replay": replay},
    "Results": {"report": report, "export": export, "runs": runs, "clean": clean},
    "What there is": {"list": list_, "show": show, "data": data, "schema": schema},
}
"""Heading of the help -> what stands below it."""
for _heading, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, cls=PlainCommand, rich_help_panel=_heading, epilog=epilog(_name))(_command)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
