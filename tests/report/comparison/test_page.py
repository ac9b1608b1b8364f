"""The page and the terminal say what differs; names in them are text."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.report.comparison.figures import difference_figures
from fedsec.report.comparison.run_comparison import ComparedRun, compare_runs
from fedsec.runs.folders.stored_run import open_run


def report(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["report", *map(str, words)])
    return result.exit_code, " ".join(result.stdout.split()), result.stderr


def test_two_runs_are_compared_on_a_page_and_in_short(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = report(*two_runs, "--out", page)
    assert code == 0
    assert "of 2 settings 1 better, 1 equal" in out
    assert "2 cells of after have no partner" in out
    assert "configuration, code, data and versions are the same" in out
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x_" in text
    for section in ("conditions", "answer", "differences", "curves", "metrics", "unpaired"):
        assert f'<section id="{section}"' in text
    assert "The same in all settings: loss." in text
    assert text.count("<svg") == 2


def test_dots_stand_at_the_differences_and_are_filled_where_they_are_told_apart(two_runs: tuple[Path, Path]) -> None:
    before, after = (ComparedRun(folder.name, folder, open_run(folder).records) for folder in two_runs)
    compared = compare_runs(before, after)
    (figure,) = difference_figures([compared], compared.main)
    dots = [container.lines[0] for container in figure.axes[0].containers]
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx([0.0, 21.0])
    assert [dot.get_markerfacecolor() for dot in dots] == ["white", dots[1].get_color()]


def test_several_runs_are_all_compared_with_the_first(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = two_runs
    code, out, _ = report(before, after, before, "--out", tmp_path / "page.html")
    assert code == 0
    assert "settings 2 equal" in out
    assert "1 better, 1 equal" in out


def test_files_of_others_stay(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    code, _, err = report(*two_runs, "--out", mine)
    assert code == 2
    assert "is there already, and is no page of fedsec's" in err
    assert mine.read_text() == "mine"
    page = tmp_path / "page.html"
    assert report(two_runs[0], "--out", page)[0] == 0
    assert report(*two_runs, "--out", page)[0] == 0


def test_folders_without_runs_are_told(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    code, _, err = report(two_runs[0], tmp_path)
    assert code == 2
    assert "is not the folder of a run" in err
