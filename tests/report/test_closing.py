"""What a run says at its end, from fabricated records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsec.report import missing_values as missing
from fedsec.report import remarks
from fedsec.report import run_report as report
from fedsec.runs.closing import Closing as Report
from fedsec.runs.store import Store
from fedsec.scenario import load_scenario

Closing = tuple[Report, list[dict[str, Any]], Console]
ADVICE = "LPIPS needs weights: put URL into FOLDER"
CURIOUS = """\
name: curious
dataset: digits
federation: {algorithm: fedsgd, rounds: 2}
matrix:
  inversion: [none, {name: dlg, target: {rounds: [1, 2]}}]
expect:
  - {inversion: dlg, lpips: "> 0.5"}
  - {inversion: dlg, psnr: "< 12"}
"""


@pytest.fixture
def closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Closing]:
    """A run of two cells, the second of which is inverted twice, and its records; no picture of accuracy is drawn."""
    for module in (remarks, missing):
        monkeypatch.setattr(module, "lpips_advice", lambda: ADVICE)
    for name in ("draw_curves", "draw_partitions"):
        monkeypatch.setattr(report, name, lambda *_: [])
    path = tmp_path / "curious.yaml"
    path.write_text(CURIOUS)
    scenario = load_scenario(path)
    console = Console(width=80, record=True, quiet=False, file=(tmp_path / "shown").open("w"))
    leaked = {"psnr": 20.0, "ssim": 0.5, "lpips": None, "psnr_gray": 10.0, "ssim_gray": 0.1, "recovered": 0.0}
    records = [
        {
            "id": cell.id,
            "cell": cell.axes,
            "status": "done",
            "metrics": {"accuracy": 0.5, "accuracy_min_last5": 0.5, "rounds_with_byzantine_majority": 0, **metrics},
            "error": None,
            "seconds": 1.0,
            "config": cell.resolved,
        }
        for cell, metrics in zip(scenario.cells(), ({}, {**leaked, "label_accuracy": 1.0}), strict=True)
    ]
    root = tmp_path / "runs"
    for number in (1, 2):
        folder = root / records[1]["id"] / "leakage" / f"round-{number:04d}"
        folder.mkdir(parents=True)
        (folder / "reconstruction.png").write_bytes(b"")
        (folder / "reconstruction-2.png").write_bytes(b"")
    yield Report(scenario, Store(root), console), records, console
    console.file.close()


def test_a_run_ends_with_what_leaked_and_where_to_see_it(
    closing: Closing,
) -> None:
    run, records, console = closing
    result = run.close(records, interrupted=False)
    shown = console.export_text()
    assert "leakage: what the server reconstructs" in shown
    assert f"note: {ADVICE}\n" in shown
    folder = run.store.root / records[1]["id"] / "leakage"
    pictures = [line for line in shown.splitlines() if line.startswith("reconstruction: ")]
    assert pictures == [
        f"reconstruction: inversion={records[1]['cell']['inversion']}: {folder}/round-000{number}/reconstruction.png"
        for number in (1, 2)
    ]
    assert result.unmet == [
        f"inversion=dlg: lpips > 0.5 (no value: {ADVICE})",
        "inversion=dlg: psnr < 12, measured 20",
    ]
    assert "expectations: 0 of 2 met" in shown


def test_many_pictures_are_summed_up(closing: Closing, monkeypatch: pytest.MonkeyPatch) -> None:
    run, records, console = closing
    monkeypatch.setattr("fedsec.runs.closing._MOST_PICTURES", 1)
    run._name_reconstructions(records)
    shown = console.export_text()
    assert shown.count("reconstruction: ") == 1
    assert f"and 1 more in {run.store.root}/*/leakage/" in shown


def test_the_page_is_named_before_the_other_files(closing: Closing) -> None:
    run, records, console = closing
    run.close(records, interrupted=False)
    lines = console.export_text().splitlines()
    page = next(number for number, line in enumerate(lines) if line.startswith("report: "))
    assert lines[page + 1 :], "the other files"
    assert (run.store.root / "report.html").read_text().startswith("<!doctype html>")


def test_a_page_that_cannot_be_drawn_costs_no_numbers(closing: Closing, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(view: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("fedsec.runs.closing.run_page", broken)
    run, records, console = closing
    result = run.close(records, interrupted=False)
    shown = " ".join(console.export_text().split())
    assert "note: no page was made of this run (ZeroDivisionError: a bug)" in shown
    assert (result.root / "results.json").is_file()
    assert not (result.root / "report.html").exists()
    assert "report: " not in shown


@pytest.mark.parametrize("status", ["failed", "pending"])
def test_a_run_without_numbers_has_a_page_that_says_so(closing: Closing, status: str) -> None:
    run, records, _ = closing
    without = [{**record, "status": status, "metrics": {}, "error": "it broke"} for record in records]
    run.close(without, interrupted=status == "pending")
    assert "No cell has numbers" in (run.store.root / "report.html").read_text()
