"""`fedsec validate`: what is wrong with scenarios, without running them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsec.cli.completion import scenario_names
from fedsec.cli.exits import BAD_INPUT
from fedsec.cli.machine import print_json
from fedsec.errors import ScenarioError, count_of

if TYPE_CHECKING:
    from fedsec.scenario import Scenario

__all__ = ["validate"]


def validate(
    scenarios: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Scenario files, or names of scenarios that come with fedsec.",
            autocompletion=scenario_names,
            show_default=False,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="As fedsec run takes them.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Find the mistakes of scenario files, each with its line; train nothing, download nothing.

    Data that are missing are no mistake, but are told.

    Exit codes: 0 all are valid, 2 one has a mistake.
    """
    outcomes = [_outcome(given, overrides or []) for given in dict.fromkeys(scenarios)]
    if as_json:
        print_json(outcomes)
    else:
        for outcome in outcomes:
            _show(outcome)
        invalid = sum(not outcome["valid"] for outcome in outcomes)
        if invalid and len(outcomes) > 1:
            typer.echo(f"{invalid} of {count_of(len(outcomes), 'scenario')} cannot be run", err=True)
    if not all(outcome["valid"] for outcome in outcomes):
        raise typer.Exit(BAD_INPUT)


def _outcome(given: str, overrides: list[str]) -> dict[str, Any]:
    """What is to be said of one scenario, as plain data."""
    from fedsec.scenario import load_scenario

    missing: dict[str, str] = {}
    try:
        scenario = load_scenario(given, overrides)
        refused = _check(scenario, missing)
    except ScenarioError as error:
        return {"scenario": given, "valid": False, "mistakes": str(error).splitlines()}
    return {
        "scenario": given,
        "valid": True,
        "mistakes": [],
        "file": str(Path(scenario.path)),
        "name": scenario.name,
        "cells": len(scenario.cells()),
        "refused": refused,
        "expectations": len(scenario.expectations),
        "set_aside": [str(expectation) for expectation in scenario.set_aside],
        "missing_data": missing,
    }


def _check(scenario: "Scenario", missing: dict[str, str]) -> int:
    """Build all that a run would build, and look at its data.

    This needs PyTorch, which a file that cannot even be read does not wait for.

    Args:
        scenario: it has been read.
        missing: takes the datasets that are not here, and how to get them.

    Returns:
        How many cells will not run, since their rule cannot withstand as many attackers as they have.
    """
    from fedsec.runs.datasets import look
    from fedsec.scenario.plan import check_scenario
    from fedsec.scenario.refusals import refusals

    check_scenario(scenario)
    look(scenario, missing=missing)
    return len(refusals(scenario.cells()))


def _show(outcome: dict[str, Any]) -> None:
    """Say it: mistakes on standard error, a line each, as compilers do."""
    if not outcome["valid"]:
        for mistake in outcome["mistakes"]:
            typer.echo(f"error: {mistake}", err=True)
        return
    parts = [count_of(outcome["cells"], "cell"), count_of(outcome["expectations"], "expectation")]
    if outcome["refused"]:
        parts.append(f"{outcome['refused']} of the cells n/a, since their rule cannot withstand so many attackers")
    typer.echo(f"{outcome['scenario']}: valid, {', '.join(parts)}")
    for text in outcome["set_aside"]:
        typer.echo(f"  set aside, since --set leaves no such cell: {text}")
    for name, how in outcome["missing_data"].items():
        typer.echo(f"  {name} is not here: {' '.join(how.split())}")
