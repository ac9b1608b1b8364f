"""How much the commands say: quiet, for machines, in color or not, and what a person sees on a terminal."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedsec import runs
from fedsec.cli import app
from fedsec.report.console import NotebookConsole, QuietConsole, default_console, open_console, say
from fedsec.runs import InProcess

SMALL = """\
dataset: {name: digits, train_size: 100, test_size: 50}
partition: {clients: 2}
model: logistic
federation: {rounds: 1, local: {steps: 1, batch_size: 10, lr: 0.1}}
expect: [{accuracy: '>= 0'}, {accuracy: '>= 1'}]
"""

runner = CliRunner()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario of one cell whose second expectation is not met; the command runs it in this process."""
    whole = runs.run

    def run(*arguments: Any, **options: Any) -> runs.RunResult:
        return whole(*arguments, **{**options, "executor": InProcess()})

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def test_quiet_says_what_went_wrong_and_where_the_results_are(small: Path) -> None:
    done = runner.invoke(app, ["run", "small.yaml", "--quiet", "--device", "cpu"])
    assert done.exit_code == 1
    unmet, page, last = done.stdout.splitlines()
    assert unmet.startswith("NOT MET: ")
    assert page == "report: runs/small/report.html"
    assert last.startswith("results in runs/small: ")
    assert not done.stderr


def test_json_is_one_object_on_standard_output(small: Path) -> None:
    done = runner.invoke(app, ["run", "small.yaml", "--json", "--device", "cpu"])
    content = json.loads(done.stdout)
    assert (done.exit_code, content["exit_code"], content["reason"]) == (1, 1, "1 expectation not met")
    assert (content["root"], content["failures"], content["interrupted"]) == ("runs/small", 0, False)
    assert content["cells"] == json.loads((small / "runs/small/results.json").read_text())
    assert [one["met"] for one in content["expectations"]] == [True, False]
    assert content["expectations"][1]["measured"] == content["cells"][0]["metrics"]["accuracy"]
    assert not done.stderr
    assert runner.invoke(app, ["run", "small.yaml", "--json", "--dry-run"]).exit_code == 2


def test_forced_color_colors_a_log_and_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**environment: str) -> str:
        stream = io.StringIO()
        with monkeypatch.context() as patch:
            for name in ("NO_COLOR", "FORCE_COLOR"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr("sys.stdout", stream)
            console = open_console()
            assert not console.is_terminal
            say(console, "word " * 40, "red")
        return stream.getvalue()

    plain = "word " * 40 + "\n"
    assert said() == plain
    assert said(FORCE_COLOR="1") == f"\x1b[31m{plain[:-1]}\x1b[0m\n"
    assert said(FORCE_COLOR="1", NO_COLOR="1") == plain


def test_a_quiet_console_shows_what_is_essential() -> None:
    stream = io.StringIO()
    console = QuietConsole(Console(file=stream))
    say(console, "by the way")
    say(console, "NOT MET", essential=True)
    assert stream.getvalue() == "NOT MET\n"


def test_without_a_console_nothing_is_shown_but_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell, is_notebook in ((None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        console = default_console()
        assert isinstance(console, NotebookConsole) == is_notebook
        assert console.quiet != is_notebook
    given = Console()
    assert default_console(given) is given
