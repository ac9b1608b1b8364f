"""Inversions on the command line as a user meets them: real attacks, small budgets, a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app

runner = CliRunner()
ENVIRONMENT = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "TERM": "dumb"}


def invert(*arguments: str) -> Any:
    return runner.invoke(app, ["invert", *arguments], env={"COLUMNS": "100", "TERM": "dumb"})


# Real attacks


def test_the_default_recovers_two_photographs(tmp_path: Path) -> None:
    done = invert("--iterations", "8", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "inversion decoupled (chosen; --inversion takes others) on lenet, a batch of 2 from photos" in done.stdout
    assert "Both images are recognizable: PSNR " in done.stdout
    metrics = json.loads((tmp_path / "result.json").read_text())["metrics"]
    assert metrics["label_accuracy"] == 1
    assert metrics["psnr"] > max(metrics["psnr_gray"], metrics["psnr_mean_image"]) + 6
    assert metrics["feature_error"] < 1e-3 < metrics["feature_error_mean_image"]
    assert {"reconstruction.png", "loss.png"} <= {path.name for path in tmp_path.iterdir()}


def test_real_attacks_on_digits(tmp_path: Path) -> None:
    out = str(tmp_path / "o")
    options = ("--dataset", "digits", "--batch-size", "1", "--labels", "--iterations", "3", "--out", out)
    told = []
    for _ in range(2):
        done = invert("--inversion", "inverting_gradients", *options, "--json")
        assert done.exit_code == 0, done.output
        content = json.loads(done.stdout)
        told.append(content["metrics"])
        assert content["iterations"] == 3
        assert content["metrics"]["label_accuracy"] == 1
    assert told[0] == told[1]


def test_labels_of_a_batch(tmp_path: Path) -> None:
    done = invert("--inversion", "labels", "--dataset", "digits", "--batch-size", "4", "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"]["label_accuracy"] >= 0.75


def test_an_attack_that_does_not_fit_the_model(tmp_path: Path) -> None:
    done = invert("--inversion", "analytic", "--model", "lenet", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.json"))


def test_a_defense_against_who_knows_it_and_who_does_not(tmp_path: Path) -> None:
    options = ("--batch-size", "1", "--iterations", "120", "--defense", "{name: prune, ratio: 0.9}")
    psnr = []
    for flag in ("--defense-known", "--defense-unknown"):
        done = invert(*options, flag, "--out", str(tmp_path), "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert (found["inversion"], found["knowledge"]["defense"]) == ("inverting_gradients", flag == "--defense-known")
        psnr.append(found["metrics"]["psnr"])
    assert psnr[0] > psnr[1] + 0.3


# A process of its own


def process(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "fedsec", "invert", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT
    )


@pytest.mark.usefixtures("interruptible")
def test_control_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    endless = ("--iterations", "200000", "--inversion-option", "plateau=null")
    options = ("--inversion", "inverting_gradients", "--dataset", "digits", *endless, "--out", "o")
    with process(*options, folder=tmp_path) as running:
        assert running.stdout is not None
        lines = [running.stdout.readline(), running.stdout.readline()]
        assert "matching loss" in lines[-1], lines
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        rest, complaints = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted: this is the best so far" in rest
    assert "Traceback" not in complaints
    found = json.loads((tmp_path / "o" / "result.json").read_text())
    assert found["interrupted"] is True
    assert found["iterations"] < 200_000
    assert (tmp_path / "o" / "reconstruction.png").exists()
