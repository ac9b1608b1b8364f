"""`fedsec scenarios`: the list of what comes with fedsec."""

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.scenario.shipped import shipped_scenarios


def shown(*arguments: str, width: int | None = None) -> str:
    environment: dict[str, Any] = {"COLUMNS": None if width is None else str(width), "TERM": "dumb"}
    result = CliRunner().invoke(app, ["scenarios", *arguments], env=environment)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_list_fits_and_breaks_no_word(width: int) -> None:
    lines = shown(width=width).splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert set(shipped_scenarios()) <= set(words)
    assert {"clients", "flipped", "standard"} <= set(words)


def test_without_a_terminal_a_scenario_is_a_line() -> None:
    lines = shown().splitlines()
    (quickstart,) = [line for line in lines if line.startswith("quickstart ")]
    shows = "Four of ten clients train on flipped labels"
    assert quickstart.split() == f"quickstart {shows} 18 digits".split()


def test_for_machines() -> None:
    content = {item["name"]: item for item in json.loads(shown("--json"))}
    assert content.keys() == set(shipped_scenarios())
    assert content["quickstart"]["datasets"] == [{"name": "digits", "present": True}]
    assert content["quickstart"]["cells"] == 18


def test_missing_data_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.data.status", list)
    assert "digits (missing)" in shown()
    assert "fedsec data status tells how to get" in shown()


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; sys.argv = ['fedsec', 'scenarios']\n"
        "from fedsec.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
