"""What the first line of a command's help says, and what a mistyped word is answered."""

import re
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.cli.commands import _COMMANDS
from fedsec.plugins import registry

COMMANDS = {name: command for commands in _COMMANDS.values() for name, command in commands.items()}
NAMES = list(COMMANDS)


def invoke(*arguments: str, width: int = 80) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(width), "TERM": "dumb"})


@pytest.mark.parametrize("command", NAMES)
@pytest.mark.parametrize("width", [40, 80])
def test_help_tells_each_argument_that_can_be_typed(command: str, width: int) -> None:
    shown = invoke(command, "--help", width=width).stdout
    lines = shown.splitlines()
    first = next(number for number, line in enumerate(lines) if "Usage:" in line)
    last = next(number for number in range(first, len(lines)) if not lines[number].strip())
    usage = " ".join(" ".join(lines[first:last]).split())
    arguments = [
        (name, info)
        for name, annotation in COMMANDS[command].__annotations__.items()
        for info in getattr(annotation, "__metadata__", ())
        if type(info).__name__ == "ArgumentInfo"
    ]
    pieces = [info.metavar or name.upper() for name, info in arguments if not info.hidden]
    assert usage.replace("[", "").replace("]", "") == " ".join(
        [f"Usage: root {command} OPTIONS", *(piece.replace("[", "").replace("]", "") for piece in pieces)]
    )
    words = re.findall(r"[\w-]+", shown)
    for _, info in arguments:
        if not info.hidden:
            assert [word for word in re.findall(r"[\w-]+", info.help) if word not in words] == []


@pytest.mark.parametrize(
    ("typed", "hint"), [("rnu", " (did you mean 'run'?)"), ("lst", " (did you mean 'list'?)"), ("frobnicate", "")]
)
def test_an_unknown_command_is_answered_once(typed: str, hint: str) -> None:
    result = invoke(typed)
    assert result.exit_code == 2
    known = ", ".join(NAMES)
    assert result.stderr == f"error: unknown command {typed!r}{hint}; known: {known}; see fedsec --help\n"


@pytest.mark.parametrize(("typed", "meant"), [("attack", "attacks"), ("defence", "defenses"), ("modles", "models")])
def test_an_unknown_kind_names_the_nearest(typed: str, meant: str) -> None:
    result = invoke("list", typed, width=40)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: fedsec list: unknown kind {typed!r} (did you mean {meant!r}?); known: ")


@pytest.mark.parametrize("width", [40, 80])
def test_the_help_of_list_names_each_kind_whole(width: int) -> None:
    words = re.findall(r"\w+", invoke("list", "--help", width=width).stdout)
    assert [kind for kind in registry.KINDS if f"{kind}s" not in words] == []
