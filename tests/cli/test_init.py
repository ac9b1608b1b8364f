"""`fedsec init`: what it writes can be run, and nothing is overwritten."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec import runs
from fedsec.cli import app
from fedsec.runs.executor import InProcess
from fedsec.scenario import load_scenario
from fedsec.scenario.schema import scenario_schema


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def init(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["init", *arguments])


def test_a_name_like_that_of_a_shipped_scenario_says_how_that_is_copied() -> None:
    hint = "the 'quickstart' that comes with fedsec: fedsec init --from quickstart"
    assert hint in init("quickstrat").stdout
    assert hint in init("quickstart").stdout
    assert "comes with fedsec" not in init("zzz").stdout + init().stdout + init("--from", "quickstart").stdout


def test_the_starter_is_valid_explained_and_runs(tmp_path: Path) -> None:
    result = init()
    assert result.exit_code == 0
    assert "fedsec validate my_scenario.yaml" in result.stdout
    path = Path("my_scenario.yaml")
    unexplained = [
        line
        for line in path.read_text().splitlines()
        if line.strip() and "#" not in line and not line.startswith(("  Three of", "federation:", "  - {attack"))
    ]
    assert not unexplained
    assert "valid, 9 cells, 2 expectations" in CliRunner().invoke(app, ["validate", str(path)]).stdout
    small = [
        "federation.rounds=1",
        "federation.local.steps=1",
        "dataset.train_size=60",
        "matrix.defense=[mean, median]",
    ]
    result_of_run = runs.run(path, overrides=[*small, "expect=[]"], executor=InProcess(), device="cpu")
    assert [record["status"] for record in result_of_run.records] == ["done"] * 6


def test_names() -> None:
    assert init("first").exit_code == 0
    assert load_scenario("first.yaml").name == "first"
    assert init("second.yml").exit_code == 0
    assert load_scenario("second.yml").name == "second"
    result = init("Bad name")
    assert result.exit_code == 2
    assert "expected a name of lower-case letters, digits, _ and -, got 'Bad name'" in result.stderr
    assert "there is no folder nowhere" in init("nowhere/x").stderr


def test_nothing_is_overwritten() -> None:
    Path("mine.yaml").write_text("precious")
    result = init("mine")
    assert result.exit_code == 2
    assert "mine.yaml: is there already" in result.stderr
    assert Path("mine.yaml").read_text() == "precious"


def test_a_copy_is_the_same_experiment_under_another_name() -> None:
    assert init("--from", "quickstart").exit_code == 0
    copy, original = load_scenario("my_quickstart.yaml"), load_scenario("quickstart")
    assert copy.name == "my_quickstart"
    assert [cell.id for cell in copy.cells()] == [cell.id for cell in original.cells()]
    assert "yaml-language-server" not in Path("my_quickstart.yaml").read_text()
    assert init("again", "--from", "my_quickstart.yaml").exit_code == 0
    assert load_scenario("again.yaml").name == "again"
    assert "did you mean 'quickstart'" in init("--from", "quickstrat").stderr


def test_a_copy_of_a_file_without_a_name_gets_one() -> None:
    Path("given.yaml").write_text("dataset: digits\n")
    assert init("other", "--from", "given.yaml").exit_code == 0
    assert Path("other.yaml").read_text() == "name: other\ndataset: digits\n"


def test_what_cannot_be_copied_is_said(tmp_path: Path) -> None:
    Path("odd.yaml").write_bytes(b"\xff\xfe")
    for source in ("odd.yaml", str(tmp_path)):
        result = init("x", "--from", source)
        assert result.exit_code == 2
        assert "cannot be read as text" in result.stderr
    assert not Path("x.yaml").exists()


def test_with_a_schema_the_editor_knows_the_keys() -> None:
    assert init("one", "--schema").exit_code == 0
    assert json.loads(Path("schema.json").read_text()) == scenario_schema()
    assert Path("one.yaml").read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    Path("schema.json").write_text("{}")
    assert "stays as it is" in init("two", "--schema").stdout
    assert Path("schema.json").read_text() == "{}"
    assert load_scenario("two.yaml").name == "two"
