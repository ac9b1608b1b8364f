"""The examples in the help are commands: those that cost nothing are carried out, the others read."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.cli.examples import EXAMPLES
from fedsec.scenario import load_scenario

GROUP: Any = get_command(app)
LINES = list(dict.fromkeys(line for examples in EXAMPLES.values() for line, _ in examples))
CHEAP = ("init", "scenarios", "validate quickstart", "list", "show", "data", "runs", "clean --dry-run")


def test_every_command_has_examples_of_its_own() -> None:
    assert EXAMPLES.keys() == GROUP.commands.keys()
    for command, examples in EXAMPLES.items():
        assert any(line.split()[1] == command for line, _ in examples)


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_ends_with_them(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for line, purpose in EXAMPLES[command]:
        assert f"{line}  # {purpose}" in shown


@pytest.mark.parametrize("line", LINES)
def test_an_example_is_a_command(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition(" > ")[0])[1:]
    text = " ".join(words)
    if text.startswith(CHEAP) and not {"fetch", "results", "--dataset", "--schema"} & {*words}:
        assert CliRunner().invoke(app, words).exit_code == 0
        return
    with GROUP.make_context("fedsec", words[:1], resilient_parsing=True) as context:
        name, command, rest = GROUP.resolve_command(context, list(words))
        parsed = command.make_context(name, rest, parent=context)
    if name == "run" and not parsed.params["scenario"].endswith(".yaml"):
        assert load_scenario(parsed.params["scenario"], parsed.params["overrides"] or []).cells()


def test_fedsec_alone_shows_the_commands_in_groups() -> None:
    shown = CliRunner().invoke(app, [], env={"COLUMNS": "80", "TERM": "dumb"}).output
    headings = ("To begin", "Experiments", "Results", "What there is")
    places = [shown.index(heading) for heading in headings]
    assert places == sorted(places)
    assert places[1] < shown.index(" run ") < places[2]
    assert "fedsec run quickstart" in shown
