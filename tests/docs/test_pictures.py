"""Every picture of the documentation has a way to be made again; those that need no run are made."""

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script that makes them, as a module."""
    monkeypatch.syspath_prepend(DOCS / "pictures")
    spec = spec_from_file_location("pictures_script", DOCS / "pictures/__main__.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pictures_script", module)
    spec.loader.exec_module(module)
    yield module
    for name in ("report", "results", "threats"):
        sys.modules.pop(name, None)


def test_every_picture_is_listed_and_every_listed_one_is_there(script: Any) -> None:
    assert set(script.PICTURES) == {path.name for path in (DOCS / "images").iterdir() if path.is_file()}
    assert all(picture.source for picture in script.PICTURES.values())


def test_pictures_of_tables_and_drawings_are_made(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "IMAGES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["pictures", "parties", "inversion_features"])
    script.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inversion_features.png", "parties.svg"]
    assert "BYZANTINE" not in capsys.readouterr().err
    assert (tmp_path / "parties.svg").read_text().startswith("<?xml")


def test_pictures_of_commands_are_copied_from_their_runs(script: Any, tmp_path: Path) -> None:
    (tmp_path / "accuracy.png").write_bytes(b"drawn by a run")
    script.of_command(tmp_path / "copy.png", made=str(tmp_path / "accuracy.png"), command="run nothing")
    assert (tmp_path / "copy.png").read_bytes() == b"drawn by a run"


def test_the_zoo_is_drawn_from_its_table(script: Any) -> None:
    worst = script.results.worst_cases()
    assert worst["krum"].low == pytest.approx(1.4, abs=0.05)
    assert worst["krum"].attack == "ipm"
    assert worst["mean"].calm == pytest.approx(90.0, abs=0.05)
    assert len(worst) == 32
