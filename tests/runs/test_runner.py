"""Real runs: files, resumption after SIGKILL, independence from the number of workers, failures, locking."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedsec.errors import BusyError, InputError
from fedsec.runs import run
from fedsec.scenario import load_scenario
from fedsec.scenario.shared_training import shared_work

TINY = """\
name: tiny
dataset: {name: digits, train_size: 300, test_size: 100}
partition: {name: dirichlet, alpha: 1.0, clients: 6}
model: {name: mlp, hidden: [8]}
federation: {algorithm: fedavg, rounds: 3, local: {steps: 5, batch_size: 10, lr: 0.1, momentum: 0.9}}
matrix:
  attack: [none, {name: label_flip, fraction: 0.34}]
  defense: [mean, median]
"""


ONE_CELL = ["matrix.attack=[none]", "matrix.defense=[mean]", "federation.rounds=1"]


def scenario(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def numbers(root: Path) -> dict[str, Any]:
    """Everything in a run folder that must not depend on when, where or how often it ran."""
    found: dict[str, Any] = {}
    for record in json.loads((root / "results.json").read_text()):
        result = json.loads((root / record["id"] / "result.json").read_text())
        lines = [json.loads(line) for line in (root / record["id"] / "rounds.jsonl").read_text().splitlines()]
        for line in lines:
            del line["seconds"]
        model = (root / record["id"] / "model.safetensors").read_bytes()
        found[record["id"]] = (result["metrics"], result["byzantine"], result["config"], lines, model)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run by one worker."""
    folder = tmp_path_factory.mktemp("whole")
    result = run(scenario(folder), out=folder, workers=1, device="cpu")
    assert result.failures == 0
    return result.root


@pytest.fixture(scope="module")
def one_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one cell of one round, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("one")
    return run(scenario(folder), overrides=ONE_CELL, out=folder, workers=1, device="cpu").root


def test_a_run_leaves_what_it_promises(whole: Path) -> None:
    records = json.loads((whole / "results.json").read_text())
    assert len(records) == 4
    assert [r["cell"]["defense"] for r in records] == ["mean", "median"] * 2
    for record in records:
        assert record["status"] == "done"
        assert 0 <= record["metrics"]["accuracy"] <= 1
        assert record["metrics"]["accuracy_min_last5"] <= record["metrics"]["accuracy"]
        assert len(record["metrics"]["per_class_accuracy"]) == 10
        folder = whole / record["id"]
        assert {p.name for p in folder.iterdir()} == {
            "config.yaml",
            "model.safetensors",
            "partition.json",
            "result.json",
            "rounds.jsonl",
        }
        counts = json.loads((folder / "partition.json").read_text())["counts"]
        assert sum(map(sum, counts)) == 300
        result = json.loads((folder / "result.json").read_text())
        assert result["environment"]["threads"] == 1
        assert result["config"]["federation"]["local"]["momentum"] == 0.9
    with (whole / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    for picture in ("partition.png", "accuracy.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")


def test_two_workers_give_the_same_bits(whole: Path, tmp_path: Path) -> None:
    assert numbers(run(scenario(tmp_path), out=tmp_path, workers=2, device="cpu").root) == numbers(whole)


def test_the_attack_changes_neither_split_nor_the_honest_batches(whole: Path) -> None:
    records = json.loads((whole / "results.json").read_text())
    counts = {json.dumps(json.loads((whole / r["id"] / "partition.json").read_text())["counts"]) for r in records}
    assert len(counts) == 1


def test_finished_cells_are_not_run_again(whole: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.glob("*/result.json")}
    result = run(scenario(whole.parent), out=whole.parent, device="cpu")
    assert len(result.records) == 4
    assert {p: p.stat().st_mtime_ns for p in whole.glob("*/result.json")} == before


def test_fresh_forgets_nothing_if_what_would_take_its_place_cannot_be_run(whole: Path) -> None:
    before = sorted(whole.rglob("*"))
    assert len(before) > 20
    for options in ({"overrides": ["matrix.defense=[trimmed_mean]"]}, {"device": "cuda:9"}):
        with pytest.raises(InputError):
            run(scenario(whole.parent), out=whole.parent, fresh=True, **{"device": "cpu", **options})
        assert sorted(whole.rglob("*")) == before


def test_fresh_runs_again_and_leaves_foreign_files(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    root = run(path, overrides=ONE_CELL, out=tmp_path, workers=1, device="cpu").root
    (root / "notes.txt").write_text("mine")
    (root / "accuracy-2.png").write_bytes(b"")
    (root / "mine.png").write_bytes(b"")
    before = next(root.glob("*/result.json")).stat().st_mtime_ns
    run(path, overrides=ONE_CELL, out=tmp_path, workers=1, device="cpu", fresh=True)
    assert next(root.glob("*/result.json")).stat().st_mtime_ns > before
    assert (root / "notes.txt").read_text() == "mine"
    assert (root / "mine.png").exists()
    assert not (root / "accuracy-2.png").exists()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("rounds", [40, 1])
def test_sigkill_at_any_moment_and_the_same_command_again(tmp_path: Path, rounds: int) -> None:
    """Killed several times at different moments, then finished: bit-identical to an uninterrupted run."""
    path = scenario(tmp_path)
    steps = 30 if rounds > 1 else 300
    arguments = [f"federation.rounds={rounds}", f"federation.local.steps={steps}", "matrix.defense=[median]"]
    expected = numbers(run(path, overrides=arguments, out=tmp_path / "whole", device="cpu", workers=2).root)
    sets = [part for argument in arguments for part in ("--set", argument)]
    fedsec = [sys.executable, "-m", "fedsec"]
    command = [*fedsec, "run", str(path), "--device", "cpu", "--out", str(tmp_path / "killed"), *sets]
    root = tmp_path / "killed" / "tiny"
    progressed = 0
    for _ in range(2 if rounds > 1 else 1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, deadline = _progress(root), time.monotonic() + 60
        while process.poll() is None and _progress(root) <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.15)
        progressed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert progressed, "the run ended before it could be killed"
    assert subprocess.run(command, capture_output=True, text=True, timeout=240).returncode == 0
    assert numbers(root) == expected


def _progress(root: Path) -> int:
    """A number that grows as a run goes on."""
    kept = [*root.glob("*/checkpoint.safetensors"), *root.glob("*/result.json"), *root.glob("shared/*")]
    return sum(p.stat().st_mtime_ns for p in kept if p.exists())


def test_a_checkpoint_is_really_continued_from(tmp_path: Path) -> None:
    """A broken checkpoint is not used; a good one is: the log keeps the lines from before the crash."""
    path = scenario(tmp_path)
    only = ["matrix.attack=[none]", "matrix.defense=[mean]", "federation.rounds=60", "federation.local.steps=50"]
    sets = [part for argument in only for part in ("--set", argument)]
    command = [sys.executable, "-m", "fedsec", "run", str(path), "--device", "cpu", "--out", str(tmp_path), *sets]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = tmp_path / "tiny"
    deadline = time.monotonic() + 60
    while not list(root.glob("*/checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    (folder,) = [p for p in root.iterdir() if (p / "config.yaml").exists()]
    time.sleep(0.5)
    first = json.loads((folder / "rounds.jsonl").read_text().splitlines()[0])
    assert run(path, overrides=only, out=tmp_path, device="cpu").failures == 0
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert lines[0] == first
    assert [line["round"] for line in lines] == list(range(1, 61))


def test_one_round_cells_share_their_training(tmp_path: Path) -> None:
    flips = ",".join(f"{{name: label_flip, num_byzantine: {number}}}" for number in (1, 2))
    overrides = ["federation.rounds=1", f"matrix.attack=[none,{flips}]"]
    result = run(scenario(tmp_path), overrides=overrides, out=tmp_path, device="cpu")
    assert result.failures == 0
    assert len(result.records) == 6
    rows = list((result.root / "shared").glob("*.safetensors"))
    assert len(rows) == 6 + 2, "six honest clients and two flipped ones, once each"
    accuracies = [r["metrics"]["accuracy"] for r in result.records]
    assert len(set(accuracies)) > 1


def test_labels_do_not_part_cells_that_share_their_training(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    labels = ["partition.label=two", "federation.label=once", "model.label=small"]
    overrides = ["federation.rounds=1", "matrix.attack=[none]"]
    plain, labeled = (
        [cell.config for cell in load_scenario(path, [*overrides, *more]).cells()] for more in ([], labels)
    )
    assert plain[0].partition.label != labeled[0].partition.label
    assert len(shared_work(plain)) == len(shared_work([*plain, *labeled])) == 6


@pytest.mark.parametrize("damage", [b"", b"not tensors"])
def test_a_damaged_shared_row_is_trained_again(one_cell: Path, tmp_path: Path, damage: bytes) -> None:
    root = shutil.copytree(one_cell, tmp_path / "tiny")
    row, *_ = sorted((root / "shared").iterdir())
    row.write_bytes(damage)
    next(root.glob("*/result.json")).unlink()
    assert run(scenario(tmp_path), overrides=ONE_CELL, out=tmp_path, workers=1, device="cpu").failures == 0
    assert numbers(root) == numbers(one_cell)
    assert row.read_bytes() != damage


def test_only_sampled_clients_are_trained_ahead(tmp_path: Path) -> None:
    overrides = ["federation.rounds=1", "federation.clients_per_round=2", "matrix.attack=[none]"]
    result = run(scenario(tmp_path), overrides=overrides, out=tmp_path, device="cpu")
    assert result.failures == 0
    assert len(list((result.root / "shared").glob("*.safetensors"))) == 2


def test_a_cell_that_fails_does_so_alone(tmp_path: Path) -> None:
    """Only the data tell that no split of 300 images gives each of six clients 200."""
    overrides = ["matrix.partition.min_per_client=[1,200]", "matrix.attack=[none]", "matrix.defense=[mean]"]
    result = run(scenario(tmp_path), overrides=overrides, out=tmp_path, device="cpu")
    assert result.failures == 1
    assert [r["status"] for r in result.records] == ["done", "failed"]
    assert "too few for 6 clients" in result.records[1]["error"]
    assert (result.root / result.records[1]["id"] / "error.txt").exists()


def test_a_rule_that_cannot_work_is_refused_before_anything_runs(tmp_path: Path) -> None:
    overrides = ["matrix.defense=[mean,{name: trimmed_mean, num_trimmed_per_side: 3}]"]
    with pytest.raises(InputError, match="trims 3"):
        run(scenario(tmp_path), overrides=overrides, out=tmp_path, device="cpu")


@pytest.mark.parametrize("damage", ["", "[]", "{", "threads: 0"])
def test_damaged_files_of_an_earlier_run_are_as_good_as_none(one_cell: Path, tmp_path: Path, damage: str) -> None:
    root = shutil.copytree(one_cell, tmp_path / "tiny")
    (folder,) = [path.parent for path in root.glob("*/config.yaml")]
    for name in ("config.yaml", "result.json", "checkpoint.safetensors", "rounds.jsonl"):
        (folder / name).write_text(damage)
    run(scenario(tmp_path), overrides=ONE_CELL, out=tmp_path, workers=1, device="cpu")
    assert numbers(root) == numbers(one_cell)


def test_files_in_the_current_folder_are_not_imported_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "statistics.py").write_text("raise RuntimeError('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert run(scenario(tmp_path), overrides=ONE_CELL, out=tmp_path, workers=1, device="cpu").failures == 0


def test_other_images_under_the_same_settings_are_another_cell(tmp_path: Path) -> None:
    from fedsec.scenario import load_scenario

    path = scenario(tmp_path, "dataset: image_folder\n")
    roots = [load_scenario(path, [f"dataset.root={name}"]).cells()[0].id for name in ("a", "b")]
    assert roots[0] != roots[1]


@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker(tmp_path: Path, workers: int) -> None:
    with pytest.raises(InputError, match="workers"):
        run(scenario(tmp_path), out=tmp_path, workers=workers)


def test_a_run_that_cannot_work_at_all_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="example"):
        run(scenario(tmp_path), overrides=["partition.clients=301"], out=tmp_path, device="cpu")


def test_the_second_process_on_a_run_folder_says_so_and_stops(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    with FileLock(tmp_path / "tiny" / ".lock"), pytest.raises(BusyError, match="another fedsec process"):
        run(scenario(tmp_path), out=tmp_path)


def test_cuda_without_a_gpu_is_bad_input(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is present")
    with pytest.raises(InputError, match="no CUDA GPU"):
        run(scenario(tmp_path), out=tmp_path, device="cuda")


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child is POSIX")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    command = [sys.executable, "-m", "fedsec", "run", str(path), "--out", str(tmp_path), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--set", "federation.rounds=5000"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "tiny").glob("*/checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again" in output
    assert "Traceback" not in output
    assert list((tmp_path / "tiny").glob("*/checkpoint.safetensors"))


def test_a_worker_that_dies_is_reported_with_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed from outside (as by the out-of-memory killer) costs its cell, not the run."""
    from fedsec.runs import pool

    spawn, victims = pool.WorkerPool._spawn, []

    def spawn_and_remember(self: Any) -> Any:
        worker = spawn(self)
        victims.append(worker)
        return worker

    monkeypatch.setattr(pool.WorkerPool, "_spawn", spawn_and_remember)
    events = []
    task = {"kind": "cell", "root": str(tmp_path), "device": "cpu", "threads": 1, "config": {}, "axes": {}}

    def kill_the_first(index: int) -> None:
        if index == 0:
            victims[-1].process.kill()

    with pool.WorkerPool(1, 1) as workers:
        for index, event in workers.run([task, task], on_start=kill_the_first):
            events.append((index, event["event"], event["error"]))
    assert [e[:2] for e in events] == [(0, "failed"), (1, "failed")]
    assert "signal 9" in events[0][2]
    assert "signal" not in events[1][2]
