"""`fedsec runs` and `fedsec clean`: what there is, and what goes."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from fedsec.cli import app


def invoke(*arguments: str, answer: str | None = None, width: int | None = None) -> Any:
    environment = {"COLUMNS": None if width is None else str(width), "TERM": "dumb"}
    return CliRunner().invoke(app, list(arguments), input=answer, env=environment)


def inversion(name: str, *, days_ago: float = 0.0, size: int = 2048) -> Path:
    """An inversion's folder, with a picture of so many bytes."""
    folder = Path("inversions") / name
    folder.mkdir(parents=True)
    content = {
        "inversion": "dlg",
        "model": "lenet",
        "verdict": "All is seen. Really.",
        "files": ["a.png", "result.json"],
    }
    (folder / "a.png").write_bytes(b"x" * size)
    (folder / "result.json").write_text(json.dumps(content))
    for path in folder.iterdir():
        os.utime(path, (time.time() - days_ago * 86400,) * 2)
    return folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_yet() -> None:
    assert invoke("runs").stdout == (
        "nothing in runs/ or inversions/ yet; fedsec run quickstart leaves something to look at\n"
    )
    assert invoke("runs", "nowhere").exit_code == 2
    assert invoke("clean").stdout == "nothing to remove; --what all removes whole runs\n"


def test_what_there_is_is_listed() -> None:
    inversion("one", days_ago=2.1)
    inversion("two", size=3 << 20)
    lines = invoke("runs").stdout.splitlines()
    assert lines[1].split("  ")[0] == "inversions/one"
    assert "2.1 KiB  2 days ago" in lines[1]
    assert lines[1].endswith("dlg on lenet: All is seen")
    assert "3.0 MiB  just now" in lines[2]
    assert all(len(line) <= 60 for line in invoke("runs", width=60).stdout.splitlines())
    content = json.loads(invoke("runs", "inversions", "--json").stdout)
    assert [(item["folder"], item["kind"], item["state"]) for item in content] == [
        ("inversions/one", "inversion", "done"),
        ("inversions/two", "inversion", "done"),
    ]
    assert content[1]["bytes"] > 3 << 20


def test_names_of_others_steer_no_terminal() -> None:
    inversion("odd\x1b[2J")
    assert "\x1b" not in invoke("runs").stdout + invoke("clean", "--what", "all", "--dry-run").stdout


def test_a_dry_run_removes_nothing() -> None:
    folder = inversion("one")
    result = invoke("clean", "--what", "all", "--dry-run")
    assert "would free 2.1 KiB; nothing was removed" in result.stdout
    assert (folder / "a.png").exists()


def test_nobody_is_asked_where_nobody_reads() -> None:
    folder = inversion("one")
    result = invoke("clean", "--what", "all")
    assert result.exit_code == 2
    assert "expected --yes" in result.stderr
    assert (folder / "a.png").exists()


@pytest.mark.parametrize(("answer", "stays"), [("n\n", True), ("\n", True), ("y\n", False)])
def test_it_asks_first(answer: str, stays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = inversion("one")
    monkeypatch.setattr("fedsec.cli.clean._somebody_reads", lambda: True)
    result = invoke("clean", "--what", "all", answer=answer)
    assert "Remove everything of 1 folder?" in result.stdout
    assert folder.exists() is stays
    assert ("nothing was removed" if stays else "freed 2.1 KiB") in result.stdout


def test_only_what_is_old_or_named_goes() -> None:
    old, new = inversion("old", days_ago=8), inversion("new", days_ago=6)
    assert invoke("clean", "--what", "all", "--older-than", "1w", "--yes").exit_code == 0
    assert not old.exists()
    assert new.exists()
    assert "did you mean 'new'" in invoke("clean", "nwe", "--yes").stderr
    assert invoke("clean", "new", "--what", "all", "-y").exit_code == 0
    assert not new.exists()


def test_durations_are_checked() -> None:
    result = invoke("clean", "--older-than", "week")
    assert result.exit_code == 2
    assert "--older-than 'week': expected a number with m, h, d or w" in result.stderr


def test_what_is_running_stays() -> None:
    folder = inversion("one")
    with FileLock(folder / ".lock"):
        result = invoke("clean", "--what", "all", "--yes")
    assert "one is running now and stays as it is" in result.stderr
    assert (folder / "a.png").exists()


def test_what_others_put_there_stays_and_is_told() -> None:
    folder = inversion("one")
    (folder / "mine.txt").write_text("mine")
    result = invoke("clean", "--what", "all", "--yes")
    assert "inversions/one stays: what lies there is not known to be fedsec's" in result.stdout
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_completion_offers_what_there_is() -> None:
    from fedsec.cli.completion import left_folders

    inversion("one")
    Path("runs/quick").mkdir(parents=True)
    assert left_folders("") == ["quick", "one"]
    assert left_folders("o") == ["one"]
    assert left_folders("runs/") == ["runs/quick"]
