"""`fedsec report` writes the page of a folder, over nothing of others, and says what else a folder is."""

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsec.cli import app

RECORD = {
    "id": "0" * 12,
    "cell": {"attack": "none", "defense": "mean"},
    "status": "done",
    "metrics": {"accuracy": 0.5},
    "error": None,
    "seconds": 1.0,
}


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps([RECORD]))
    (folder / "manifest.json").write_text(json.dumps({"cells": [], "report": {}}))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(*arguments: str, code: int = 0) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split()) if code else result.output


def test_the_page_lies_in_the_folder_and_is_known_as_fedsec_s(here: Path) -> None:
    make_run(here / "runs" / "one")
    assert report("runs/one") == "runs/one/report.html\n"
    page = here / "runs" / "one" / "report.html"
    assert "50.0" in page.read_text()
    assert list(json.loads((page.parent / "manifest.json").read_text())["report"]) == ["report.html"]
    report("runs/one")
    assert sorted(page.parent.glob("report.html*")) == [page], "its own page is replaced"


def test_a_file_of_others_is_renamed(here: Path) -> None:
    make_run(here / "one")
    (here / "one" / "report.html").write_text("mine")
    assert "was no page of fedsec's; it is one/report.html.1 now" in report("one")
    assert (here / "one" / "report.html.1").read_text() == "mine"


def test_a_page_goes_where_it_is_asked_for(here: Path) -> None:
    make_run(here / "one")
    assert report("one", "--out", "page.html") == "page.html\n"
    report("one", "--out", "page.html")
    assert not (here / "one" / "report.html").exists()
    (here / "mine.html").write_text("mine")
    assert "mine.html: is there already, and is no page" in report("one", "--out", "mine.html", code=2)
    (here / "pages").mkdir()
    assert report("one", "--out", "pages") == "pages/report.html\n"


def test_a_folder_that_cannot_be_written_leaves_a_way_out(here: Path) -> None:
    (make_run(here / "one") / ".lock").mkdir()
    assert "--out FILE writes the page elsewhere" in report("one", code=2)
    assert report("one", "--out", "page.html") == "page.html\n"


def test_the_page_is_shown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(here / "one")
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: shown.append(address) or True)
    report("one", "--open")
    assert shown == [(here / "one" / "report.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert "no browser was found; open one/report.html yourself" in report("one", "--open")


def file(here: Path) -> str:
    make_run(here / "one")
    return "one/results.json"


def cell(here: Path) -> str:
    folder = make_run(here / "one") / ("0" * 12)
    folder.mkdir()
    (folder / "rounds.jsonl").touch()
    return f"one/{folder.name}"


def runs(here: Path) -> str:
    make_run(here / "runs" / "a")
    make_run(here / "runs" / "b")
    return "runs"


def name(here: Path) -> str:
    make_run(here / "runs" / "one")
    return "one"


def recording(here: Path) -> str:
    (here / "cell").mkdir()
    (here / "cell" / "manifest.json").write_text(json.dumps({"format": "fedsec recording"}))
    return "cell"


def killed(here: Path) -> str:
    (here / "one").mkdir()
    (here / "one" / "manifest.json").write_text(json.dumps({"cells": ["0" * 12], "report": {}}))
    return "one"


def nothing(here: Path) -> str:
    (here / "one").mkdir()
    return "one"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (file, "is a file; expected its folder, one"),
        (cell, "is the folder of one cell; expected that of its run, one"),
        (runs, "it holds 2 of them; expected one: runs/a, runs/b"),
        (name, "there is no such folder; did you mean runs/one?"),
        (recording, "fedsec replay cell looks back at it"),
        (killed, "it is at work, or was killed"),
        (nothing, "is not the folder of a run"),
        (lambda here: "nowhere", "there is no such folder; expected one such as runs/NAME"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_run_is_told_by_what_it_is(here: Path, make: Callable[[Path], str], says: str) -> None:
    path = make(here)
    assert says in report(path, code=2)
