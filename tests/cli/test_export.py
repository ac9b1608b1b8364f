"""`fedsec export`: files where they are asked for, none of others replaced, mistakes told."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsec.cli import app


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of one cell, in a folder that is the current one."""
    root = tmp_path / "runs" / "tiny"
    (root / "0123456789ab").mkdir(parents=True)
    metrics = {"accuracy": 0.5, "loss": 1.25}
    record = {"id": "0123456789ab", "cell": {"attack": "none"}, "status": "done", "metrics": metrics, "seconds": 1.0}
    (root / "results.json").write_text(json.dumps([record]))
    lines = [{"round": number, "accuracy": number / 4} for number in (1, 2)]
    (root / "0123456789ab" / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return root


def export(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["export", "runs/tiny", *words])
    return result.exit_code, result.stdout, result.stderr


def test_a_table_goes_to_the_standard_output_and_nothing_else_does(finished: Path) -> None:
    code, out, _ = export("--format", "csv", "--out", "-", "--metric", "loss", "--metric", "accuracy")
    assert code == 0
    assert list(csv.reader(io.StringIO(out))) == [
        ["id", "attack", "status", "loss", "accuracy"],
        ["0123456789ab", "none", "done", "1.25", "0.5"],
    ]
    code, out, _ = export("--format", "csv", "--out", "-", "--rounds", "--long")
    assert out.splitlines() == [
        "id,attack,round,metric,value",
        "0123456789ab,none,1,accuracy,0.25",
        "0123456789ab,none,2,accuracy,0.5",
    ]


def test_files_that_are_there_stay_unless_they_are_to_go(finished: Path) -> None:
    mine = Path("tiny.tex")
    mine.write_text("mine")
    code, _, err = export("--format", "latex", "--figures")
    assert code == 2
    assert "tiny.tex: is there already; --force replaces it" in err
    assert mine.read_text() == "mine"
    assert not Path("tiny-figures").exists()
    code, out, _ = export("--format", "latex", "--figures", "--force")
    assert code == 0
    assert "booktabs" in mine.read_text()
    assert out.split() == ["tiny.tex", str(Path("tiny-figures/accuracy.pdf")), str(Path("tiny-figures/accuracy.svg"))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected --format csv|parquet|latex|markdown, or --figures"),
        (["--format", "csv", "--metric", "acc"], "unknown metric 'acc'"),
        (["--format", "latex", "--metric", "lost"], "did you mean 'loss'?"),
        (["--format", "markdown", "--rounds"], "--rounds is for --format csv and parquet"),
        (["--figures", "--long"], "expected --format as well"),
        (["--figures", "--out", "-"], "figures are files"),
        (["--format", "csv", "--out", "runs"], "is a folder"),
    ],
)
def test_mistakes_are_told(finished: Path, words: list[str], message: str) -> None:
    code, _, err = export(*words)
    assert code == 2
    assert message in " ".join(err.split())


def test_what_is_no_run_is_told(finished: Path) -> None:
    result = CliRunner().invoke(app, ["export", ".", "--format", "csv"])
    assert result.exit_code == 2
    assert "is not the folder of a run" in result.stderr
