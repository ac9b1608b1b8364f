"""`fedsec validate`: every mistake of every file, and what is no mistake."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app

BAD = "dataset: digit\nmodle: mlp\nfederation: {rounds: 0}\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def validate(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["validate", *arguments])


def test_what_is_valid_is_counted() -> None:
    result = validate("quickstart")
    assert (result.exit_code, result.stdout) == (0, "quickstart: valid, 18 cells, 4 expectations\n")


def test_all_mistakes_of_all_files_have_their_lines() -> None:
    Path("bad.yaml").write_text(BAD)
    Path("none.yaml").write_text("")
    result = validate("bad.yaml", "quickstart", "none.yaml", "nowhere.yaml")
    assert result.exit_code == 2
    assert result.stdout == "quickstart: valid, 18 cells, 4 expectations\n"
    lines = result.stderr.splitlines()
    assert [line.split(" ")[1] for line in lines[:5]] == [
        "bad.yaml:1:",
        "bad.yaml:2:",
        "bad.yaml:3:",
        "none.yaml:",
        "nowhere.yaml:",
    ]
    assert lines[-1] == "3 of 4 scenarios cannot be run"


def test_what_only_building_it_tells_is_found() -> None:
    Path("bad.yaml").write_text("dataset: digits\ndefense: {name: trimmed_mean, trim_per_side: 0.5}\n")
    assert "bad.yaml:2: defense" in validate("bad.yaml").stderr


def test_more_clients_than_examples_are_a_mistake_and_missing_data_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("many.yaml").write_text("dataset: digits\npartition: {clients: 100000}\n")
    assert "many.yaml:2: partition.clients" in validate("many.yaml").stderr
    Path("empty").mkdir()
    monkeypatch.setenv("FEDSEC_DATA", "empty")
    monkeypatch.setenv("XDG_CACHE_HOME", "empty")
    Path("far.yaml").write_text("dataset: {name: mnist, root: empty, download: false}\n")
    result = validate("far.yaml", "--json")
    assert result.exit_code == 0
    (outcome,) = json.loads(result.stdout)
    assert outcome["valid"]
    assert "mnist" in outcome["missing_data"]
    assert "mnist is not here" in validate("far.yaml").stdout


def test_cells_that_cannot_be_carried_out_are_counted() -> None:
    Path("some.yaml").write_text(
        "dataset: digits\nfederation: {declared_byzantine: actual}\n"
        "matrix: {attack: [none, {name: sign_flip, num_byzantine: 4}], defense: [krum]}\n"
    )
    assert "2 cells, 0 expectations, 1 of the cells n/a" in validate("some.yaml").stdout


def test_for_machines() -> None:
    Path("bad.yaml").write_text(BAD)
    result = validate("bad.yaml", "quickstart", "--json", "--set", "matrix.defense=[median]")
    assert result.exit_code == 2
    bad, good = json.loads(result.stdout)
    assert (bad["valid"], good["valid"], good["cells"]) == (False, True, 6)
    assert len(bad["mistakes"]) == 3
    assert any("defense=mean" in text for text in good["set_aside"])


def test_a_file_that_cannot_be_read_does_not_wait_for_pytorch(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    code = (
        "import sys; sys.argv = ['fedsec', 'validate', 'bad.yaml']\n"
        "from fedsec.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert done.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
