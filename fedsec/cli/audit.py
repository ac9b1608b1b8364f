"""`fedsec audit`: its options as typed. Whatever is heavy is imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsec.assessment.command import BUDGET
from fedsec.cli.exits import FAILED, INTERRUPTED
from fedsec.cli.machine import print_json
from fedsec.cli.option_words import in_option_words
from fedsec.cli.options import Device, names_of, value_of
from fedsec.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from fedsec.assessment import Audit

__all__ = ["audit"]

_PARAMETERS = (
    *("model", "data", "clients", "partition", "algorithm", "rounds", "clients_per_round", "local_epochs"),
    *("local_steps", "batch_size", "lr", "defense", "seed", "budget", "out", "workers", "fail_on"),
)
"""Of `fedsec.audit`, those that are options here."""
_FEDERATION, _AUDIT, _OUTPUT = "The federation", "The audit", "Results"


def audit(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PACKAGE.MODULE:FACTORY",
            help="What is trained, see `fedsec list models`; or your own, whose code this runs.",
            autocompletion=names_of("model"),
            show_default="cnn",
            rich_help_panel=_FEDERATION,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="A dataset, see `fedsec list datasets`; or a folder of {train,test}/<class>/<image>.",
            autocompletion=names_of("dataset"),
            show_default="digits",
            rich_help_panel=_FEDERATION,
        ),
    ] = None,
    clients: Annotated[
        int | None, typer.Option(help="All of them.", show_default="10", rich_help_panel=_FEDERATION)
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|{name: .., ..}",
            help="How examples are spread over clients.",
            autocompletion=names_of("partition"),
            show_default="{name: dirichlet, alpha: 1.0}",
            rich_help_panel=_FEDERATION,
        ),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="See `fedsec list algorithms`.",
            autocompletion=names_of("algorithm"),
            show_default="fedavg",
            rich_help_panel=_FEDERATION,
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Of communication.", show_default="20", rich_help_panel=_FEDERATION)
    ] = None,
    clients_per_round: Annotated[
        int | None, typer.Option(help="Drawn in each round.", show_default="all", rich_help_panel=_FEDERATION)
    ] = None,
    local_epochs: Annotated[
        int | None, typer.Option(help="Of a client in a round.", show_default="1", rich_help_panel=_FEDERATION)
    ] = None,
    local_steps: Annotated[
        int | None, typer.Option(help="In place of epochs.", show_default=False, rich_help_panel=_FEDERATION)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Of a client's steps.", show_default="16", rich_help_panel=_FEDERATION)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Of a client's steps.", show_default="0.1", rich_help_panel=_FEDERATION)
    ] = None,
    defense: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|{name: .., ..}|[.., ..]",
            help="What the server and the clients do already, as in a scenario.",
            autocompletion=names_of("defense"),
            show_default="mean",
            rich_help_panel=_FEDERATION,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=VALUE",
            help="Any other setting of a scenario, e.g. federation.local.momentum=0.9. Repeatable.",
            show_default=False,
            rich_help_panel=_FEDERATION,
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Look back at what a server received instead, see `fedsec run --record`; trains nothing.",
            show_default=False,
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="Such as 90s, 10m or 1h.", rich_help_panel=_AUDIT)
    ] = BUDGET,
    probe: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; repeatable. --list names them.", show_default="all", rich_help_panel=_AUDIT),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show what would be run; run nothing.", rich_help_panel=_AUDIT)
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="critical|high|medium|low|info",
            help="End with exit code 1 where a finding is as severe as this, or where nothing was measured.",
            show_default="never",
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.", rich_help_panel=_AUDIT)] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes.", show_default="one a core", rich_help_panel=_AUDIT)
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=_AUDIT)] = Device.auto,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report.", rich_help_panel=_OUTPUT)] = Path(
        "audit"
    ),
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show only where the report is.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print audit.json and nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Show the report in a browser at the end.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Attack a federation as it is deployed, within a budget, and report what was found.

    Without options: embedded digits, a small network, ten unlike clients, four minutes. What was finished is taken when
    the same command is given again.

    Exit codes: 0 done, 1 a finding as severe as --fail-on, or nothing measured with it, 2 bad input, 130 interrupted
    (run it again to go on).
    """
    from fedsec.report.console import open_console
    from fedsec.report.progress_lines import activity

    console = open_console(quiet=quiet, as_json=as_json)
    settings: dict[str, Any] = {
        "model": _value("--model", model),
        "data": _value("--data", data),
        "clients": clients,
        "partition": _value("--partition", partition),
        "algorithm": algorithm,
        "rounds": rounds,
        "clients_per_round": clients_per_round,
        "local_epochs": local_epochs,
        "local_steps": local_steps,
        "batch_size": batch_size,
        "lr": lr,
        "defense": None if defense is None else value_of("--defense", defense),
        "seed": seed,
    }
    with activity(console, "loading PyTorch"):
        from fedsec.assessment.auditor import audit as run_audit
        from fedsec.assessment.severity import at_least
    with in_option_words(_PARAMETERS):
        if fail_on is not None:
            at_least("none", fail_on)
        if recording is not None:
            settled = {"set": overrides, "probe": probe, "list": list_, "workers": workers, "seed": seed}
            settled |= {"budget": budget != BUDGET, "device": device.value != "auto"}
            _end(_recorded(recording, {**settings, **settled}, out, console), console, as_json, open_page, fail_on)
            return
        if list_:
            if as_json:
                raise InputError("--json: prints what an audit came to; expected no --list beside it")
            from fedsec.assessment.preview import show_plan

            show_plan(console, settings, overrides or (), budget, probe, workers, device.value)
            return
        result = run_audit(
            **settings,
            overrides=overrides or (),
            budget=budget,
            probes=probe,
            out=out,
            workers=workers,
            device=device.value,
            console=console,
        )
    _end(result, console, as_json, open_page, fail_on)


def _end(result: "Audit", console: "Console", as_json: bool, open_page: bool, fail_on: str | None) -> None:
    """Show what an audit came to, and end with its exit code."""
    from fedsec.assessment.result import PAGE
    from fedsec.assessment.terminal import show

    if as_json:
        print_json(result.as_json())
    else:
        show(console, result)
    if open_page:
        from fedsec.cli.report import show_page

        show_page(result.root / PAGE)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    # A check that let pass what nobody measured would be no check.
    if fail_on is not None and (not result.findings or result.at_least(fail_on)):
        raise typer.Exit(FAILED)


def _recorded(recording: Path, settings: dict[str, Any], out: Path, console: "Console") -> "Audit":
    """Look back at a recording; of the federation's options only the model says anything there."""
    from fedsec.assessment.recorded import audit_recording

    given = [name for name, value in settings.items() if value not in (None, False, 0, []) and name != "model"]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{option}: what was recorded stays as it was; expected no such option beside --recording")
    return audit_recording(recording, model=settings["model"], out=out, console=console)


def _value(option: str, text: str | None) -> Any:
    """A name as it is; a mapping as YAML."""
    return value_of(option, text) if text is not None and text.lstrip().startswith("{") else text
