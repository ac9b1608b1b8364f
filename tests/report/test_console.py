"""Lines for terminals, for logs and for encodings that lack letters."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from fedsec.report.console import say
from fedsec.report.progress_lines import progress_lines


def said(text: str, *, terminal: bool, width: int = 30) -> str:
    stream = io.StringIO()
    say(Console(file=stream, force_terminal=terminal, color_system=None, width=width), text)
    return stream.getvalue()


def test_a_terminal_gets_whole_words() -> None:
    lines = said("results: results.json, results.csv, accuracy.png, partition.png in runs/quickstart", terminal=True)
    words = lines.split()
    assert "partition.png" in words
    assert "runs/quickstart" in words
    assert max(map(len, lines.splitlines())) <= 30


def test_a_log_gets_whole_lines() -> None:
    text = "results: results.json, results.csv, accuracy.png, partition.png in runs/quickstart"
    assert said(text, terminal=False) == text + "\n"


def test_what_steers_terminals_is_spelled_out() -> None:
    assert said("a\x1b[31mb\tc [red]d", terminal=False) == "a\\x1b[31mb\\tc [red]d\n"


@pytest.mark.parametrize("console", [Console(quiet=True, force_terminal=True), Console(file=io.StringIO())])
def test_no_live_lines_without_a_terminal(console: Console) -> None:
    assert progress_lines(console) is None


def test_letters_that_an_encoding_lacks_are_spelled_out() -> None:
    code = (
        "from rich.console import Console; from fedsec.report.console import say, spell_out_missing_letters; "
        "spell_out_missing_letters(); say(Console(), '97.6 \\u00b11.6'); say(Console(stderr=True), 'caf\\u00e9')"
    )
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"97.6 \\xb11.6\n", b"caf\\xe9\n")
