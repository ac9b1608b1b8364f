"""Errors of Python functions are said in the words of the command line."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.cli.option_words import in_option_words, option_words
from fedsec.errors import BusyError, ScenarioError

OPTIONS = {"ray": "--ray", "rounds": "--rounds", "test": "--dataset", "keep": "--keep"}
OPTIONS |= {name: f"--{name.replace('_', '-')}" for name in ("cpus_per_cell", "num_byzantine", "device")}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cpus_per_cell must be at least 1", "--cpus-per-cell must be at least 1"),
        ("expected fewer cpus_per_cell", "expected fewer --cpus-per-cell"),
        ("rounds '3-': expected spans", "--rounds '3-': expected spans"),
        ("test: expected a model", "--dataset: expected a model"),
        ("expected ray=auto as well", "expected --ray auto as well"),
        ("device must be auto, cpu or cuda", "--device must be auto, cpu or cuda"),
        ("krum: num_byzantine must be smaller", "krum: num_byzantine must be smaller"),
        ("num_byzantine: expected 1", "--num-byzantine: expected 1"),
        ("two rounds keep their device", "two rounds keep their device"),
        ("federation.cpus_per_cell", "federation.cpus_per_cell"),
        ("--cpus_per_cell", "--cpus_per_cell"),
    ],
)
def test_parameters_become_options_and_words_stay_words(said: str, shown: str) -> None:
    assert option_words(said, OPTIONS) == shown


def test_errors_keep_their_kind_and_files_their_keys() -> None:
    with pytest.raises(BusyError, match=r"^--ray: no"), in_option_words(["ray"]):
        raise BusyError("ray: no")
    with pytest.raises(ScenarioError, match=r"^ray: no"), in_option_words(["ray"]):
        raise ScenarioError("ray: no")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cpus-per-cell", "2"],
            "--cpus-per-cell, --gpus-per-cell, --memory-per-cell, --actors-per-cell are for Ray",
        ),
        (["--cpus-per-cell", "2"], "expected --ray auto as well"),
        (["--ray", "auto", "--cpus-per-cell", "0"], "--cpus-per-cell must be at least 1"),
        (["--ray", "auto", "--actors-per-cell", "2", "--record", "x"], "--record: is for cells"),
        (["--ray", "no"], "Ray at 'no': expected auto"),
        (["--memory-gib", "-1"], "--memory-gib must be a positive number of GiB"),
        (["--workers", "99999"], "--workers must be at least 1 and at most 1024"),
        (["--fresh", "--keep"], "--fresh forgets what --keep would keep"),
    ],
)
def test_run_speaks_of_its_options(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "quickstart", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not re.search(r"[a-z]_(per_)?(cell|gib)", result.stderr)
