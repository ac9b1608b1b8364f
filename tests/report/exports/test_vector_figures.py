"""Figures as vectors: whole fonts, nothing of the day they were made."""

import json
from pathlib import Path

import pytest

from fedsec.report.exports.vector_figures import drawn, figures_of


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of one cell with two rounds."""
    (tmp_path / "a").mkdir()
    lines = [{"round": number, "accuracy": number / 4} for number in (1, 2)]
    (tmp_path / "a" / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_figures_are_the_same_bytes_each_time(run_folder: Path) -> None:
    record = {"id": "a", "cell": {}, "status": "done", "metrics": {"accuracy": 0.5}}
    ((name, figure),) = figures_of(run_folder, [record])
    ((_, again),) = figures_of(run_folder, [record])
    assert name == "accuracy"
    pdf, svg = drawn(figure, "pdf"), drawn(figure, "svg")
    assert drawn(again, "pdf") == pdf
    assert drawn(again, "svg") == svg
    assert pdf.startswith(b"%PDF")
    assert b"/Type /Font /Subtype /Type0" in pdf.replace(b"\n", b" ") or b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert b"<dc:date>" not in svg


def test_a_run_without_finished_cells_has_none(tmp_path: Path) -> None:
    assert list(figures_of(tmp_path, [{"id": "a", "cell": {}, "status": "failed", "metrics": {}}])) == []
