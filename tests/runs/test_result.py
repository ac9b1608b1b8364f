"""What a run gives back: short where it is shown, a table where one is wanted."""

import base64
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.runs import RunResult
from fedsec.runs.store import Store


@pytest.fixture
def result() -> RunResult:
    """A run of many cells of which the second failed."""
    done = {"id": "a", "cell": {"attack": "none"}, "status": "done", "metrics": {"accuracy": 0.5}, "error": None}
    failed = {**done, "id": "b", "status": "failed", "metrics": {}, "error": "why"}
    records: list[dict[str, Any]] = [done, failed, *[done] * 98]
    return RunResult(Path("runs/x"), records, 1, ["accuracy > 0.9"], interrupted=False)


def test_it_shows_itself_on_one_screen(result: RunResult) -> None:
    lines = repr(result).splitlines()
    assert lines[0] == f"RunResult({Path('runs/x')}: 99 of 100 cells done)"
    assert "attack=none: accuracy (%) 50.0" in lines[1]
    assert "failed: why" in lines[2]
    assert "70 more" in lines[-2]
    assert "accuracy > 0.9" in lines[-1]
    assert len(lines) < 40


def test_a_notebook_shows_the_pictures_of_the_report_and_nobody_elses(result: RunResult, tmp_path: Path) -> None:
    root = tmp_path / "run"
    Store(root).report([], lambda folder: (folder / "accuracy.png").write_bytes(b"ours"))
    (root / "holiday.png").write_bytes(b"another's")
    shown = replace(result, root=root)._repr_html_()
    assert base64.b64encode(b"ours").decode() in shown
    assert base64.b64encode(b"another's").decode() not in shown


def test_a_data_frame_has_a_row_for_each_cell(result: RunResult) -> None:
    pytest.importorskip("pandas")
    frame = result.to_dataframe()
    assert list(frame.columns) == ["id", "attack", "status", "accuracy"]
    assert len(frame) == 100
    assert frame["accuracy"].max() == 0.5


def test_without_pandas_it_is_said_what_is_missing(result: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        result.to_dataframe()


def test_a_data_frame_of_rounds_has_a_row_for_each_round(long_cell: Path) -> None:
    pytest.importorskip("pandas")
    record = {"id": next(long_cell.glob("*/rounds.jsonl")).parent.name, "cell": {}, "status": "done", "metrics": {}}
    frame = RunResult(long_cell, [record], 0, [], interrupted=False).to_dataframe(rounds=True)
    assert frame["round"].tolist() == [1, 2, 3]
    assert frame["accuracy"].between(0, 1).all()
