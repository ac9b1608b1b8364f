"""Killed or interrupted at any moment, then run again: the same bits as without."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fedsec.runs import RunResult, cell
from fedsec.runs.cell_files import CellFiles


@pytest.fixture
def interrupted(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> RunResult:
    """A run of one cell of three rounds, interrupted when its second checkpoint had been written."""
    save, saved = CellFiles.save_checkpoint, []

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cell, "CHECKPOINT_SHARE", 0)
        patch.setattr(CellFiles, "save_checkpoint", save_and_stop)
        result: RunResult = tiny.run(tmp_path, *tiny.one, console=(console := recorder()))
    assert result.interrupted
    assert "0 of 1 cell are finished, 1 more is kept" in console.export_text()
    return result


def recorder() -> Any:
    """A console that remembers what it shows."""
    from rich.console import Console

    return Console(record=True, file=io.StringIO(), width=200)


def test_an_interrupted_cell_goes_on_where_it_was(
    interrupted: RunResult, long_cell: Path, tmp_path: Path, tiny: Any
) -> None:
    (log,) = interrupted.root.glob("*/rounds.jsonl")
    first = log.read_text().splitlines()[:2]
    result = tiny.run(tmp_path, *tiny.one, console=(console := recorder()))
    assert "continues after round 2" in console.export_text()
    assert log.read_text().splitlines()[:2] == first, "the lines from before, with their times"
    assert tiny.numbers(result.root) == tiny.numbers(long_cell)


def test_it_is_said_where_an_interrupted_cell_will_go_on(interrupted: RunResult) -> None:
    (record,) = interrupted.records
    assert record["status"] == "pending"
    assert CellFiles(interrupted.root / record["id"]).last_round() == 2


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_sigkill_at_any_moment_and_the_same_again(tmp_path: Path, tiny: Any) -> None:
    """Killed with its workers, then finished: bit-identical to an uninterrupted run."""
    path = tiny.file(tmp_path)
    overrides = ["federation.rounds=30", "federation.local.steps=30", "matrix.defense=[median]", "matrix.attack=[none]"]
    expected = tiny.numbers(tiny.run(tmp_path, *overrides, out=tmp_path / "whole").root)
    sets = [part for argument in overrides for part in ("--set", argument)]
    fedsec = [sys.executable, "-m", "fedsec"]
    command = [*fedsec, "run", str(path), "--device", "cpu", "--workers", "1", "--out", str(tmp_path / "killed"), *sets]
    root = tmp_path / "killed" / "tiny"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and not progress(root) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert progress(root)
    assert tiny.run(tmp_path, *overrides, out=tmp_path / "killed").failures == 0
    assert tiny.numbers(root) == expected


def progress(root: Path) -> bool:
    """Whether a run has left something to go on from."""
    return any(root.glob("*/checkpoint.safetensors"))


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child is POSIX")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path, tiny: Any) -> None:
    path = tiny.file(tmp_path)
    command = [sys.executable, "-m", "fedsec", "run", str(path), "--out", str(tmp_path), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--workers", "1", "--set", "federation.rounds=5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "tiny").glob("*/checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again" in output
    assert "continues at round" in output
    assert "Traceback" not in output
    assert list((tmp_path / "tiny").glob("*/checkpoint.safetensors"))
    records = json.loads((tmp_path / "tiny" / "results.json").read_text())
    assert [record["status"] for record in records] == ["pending"] * 4
