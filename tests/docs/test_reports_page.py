"""What the page about results shows works on a finished run: its commands, and its Python from top to bottom."""

import json
import re
import shlex
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fedsec
from fedsec.cli import app
from fedsec.runs import InProcess

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()


@pytest.fixture(autouse=True)
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, `runs/quickstart` and `runs/after`, in the current folder."""
    for name in ("quickstart", "after"):
        records: list[dict[str, Any]] = []
        for attack, defense, seed in product(("none", "alie"), ("mean", "median"), range(3)):
            values = [0.1 + seed / 50, 0.5 + seed / 40]
            metrics = {
                "accuracy": values[-1],
                "accuracy_min_last5": values[0],
                "loss": 1.0,
                "per_class_accuracy": values,
            }
            cell = {"attack": attack, "defense": defense, "seed": str(seed)}
            records.append({"id": f"{len(records):012x}", "cell": cell, "status": "done", "metrics": metrics})
            records[-1] |= {"error": None, "seconds": 1.0}
            folder = tmp_path / "runs" / name / records[-1]["id"]
            folder.mkdir(parents=True)
            lines = [json.dumps({"round": number, "accuracy": value}) for number, value in enumerate(values, 1)]
            (folder / "rounds.jsonl").write_text("\n".join(lines) + "\n")
        (tmp_path / "runs" / name / "results.json").write_text(json.dumps(records))
    monkeypatch.chdir(tmp_path)


COMMANDS = list(dict.fromkeys(re.findall(r"^    (fedsec (?:report|export) .*)$", PAGE, re.M)))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_do_what_they_are_shown_for(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "parquet" in command:
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    if "--out -" not in command:
        assert all(Path(line).is_file() for line in result.stdout.splitlines()[-1:])


def test_python_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    monkeypatch.setattr(fedsec, "run", partial(fedsec.run, executor=InProcess(), device="cpu"))
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
        exec(compile(block, "reports.md", "exec"), names)
    assert names["rounds"].shape[0] == 24
    said = capsys.readouterr().out
    assert "the only cell 1 {'accuracy'" in said
    assert said.splitlines()[-1].startswith("finished and left")
