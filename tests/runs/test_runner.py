"""Whole runs, in this process: what they leave, what is run again, what is refused."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedsec.errors import BusyError, InputError
from fedsec.runs import InProcess, run
from fedsec.scenario import load_scenario
from fedsec.scenario.shared_training import shared_work


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
            "checkpoint.safetensors",
            "config.yaml",
            "model.safetensors",
            "partition.json",
            "result.json",
            "rounds.jsonl",
        }
        counts = json.loads((folder / "partition.json").read_text())["counts"]
        assert sum(map(sum, counts)) == 300
        result = json.loads((folder / "result.json").read_text())
        assert result["config"]["federation"]["local"]["momentum"] == 0.9
    with (whole / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    for picture in ("partition.png", "accuracy.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")


def test_the_attack_changes_neither_split_nor_the_honest_batches(whole: Path) -> None:
    records = json.loads((whole / "results.json").read_text())
    counts = {json.dumps(json.loads((whole / r["id"] / "partition.json").read_text())["counts"]) for r in records}
    assert len(counts) == 1


def test_finished_cells_are_not_run_again(whole: Path, tmp_path: Path, tiny: Any) -> None:
    root = shutil.copytree(whole, tmp_path / whole.name)
    before = {p: p.stat().st_mtime_ns for p in root.glob("*/result.json")}
    assert len(tiny.run(tmp_path).records) == len(before) == 4
    assert {p: p.stat().st_mtime_ns for p in root.glob("*/result.json")} == before


def test_fresh_forgets_nothing_if_what_would_take_its_place_cannot_be_run(whole: Path, tiny: Any) -> None:
    before = sorted(whole.rglob("*"))
    assert len(before) > 20
    for overrides, device in ((["matrix.defense=[trimmed_mean]"], "cpu"), ([], "cuda:9")):
        with pytest.raises(InputError):
            tiny.run(whole.parent, *overrides, fresh=True, device=device)
        assert sorted(whole.rglob("*")) == before


def test_one_round_cells_share_their_training(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsec.runs import shared_updates

    rows: list[Path] = []
    save = shared_updates.save_tensors
    monkeypatch.setattr(shared_updates, "save_tensors", lambda path, *rest: (rows.append(path), save(path, *rest)))
    flips = ",".join(f"{{name: label_flip, num_byzantine: {number}}}" for number in (1, 2))
    result = tiny.run(tmp_path, "federation.rounds=1", f"matrix.attack=[none,{flips}]")
    assert [record["status"] for record in result.records] == ["done"] * 6
    assert len(rows) == len(set(rows)) == 6 + 2, "six honest clients and two flipped ones, once each"
    assert len({record["metrics"]["accuracy"] for record in result.records}) > 1


def test_labels_do_not_part_cells_that_share_their_training(tmp_path: Path, tiny: Any) -> None:
    path = tiny.file(tmp_path)
    labels = ["partition.label=two", "federation.label=once", "model.label=small"]
    overrides = ["federation.rounds=1", "matrix.attack=[none]"]
    plain, labeled = (
        [cell.config for cell in load_scenario(path, [*overrides, *more]).cells()] for more in ([], labels)
    )
    assert plain[0].partition.label != labeled[0].partition.label
    assert len(shared_work(plain)) == len(shared_work([*plain, *labeled])) == 6


def test_only_sampled_clients_are_trained_ahead(tmp_path: Path, tiny: Any) -> None:
    overrides = ["federation.rounds=1", "federation.clients_per_round=2", "matrix.attack=[none]"]
    configs = [cell.config for cell in load_scenario(tiny.file(tmp_path), overrides).cells()]
    assert len(shared_work(configs)) == 2


def test_a_cell_that_fails_does_so_alone(tmp_path: Path, tiny: Any) -> None:
    """Only the draw tells that its split of 300 images does not give each of six clients 50."""
    overrides = ["matrix.partition.min_per_client=[1,50]", "matrix.attack=[none]", "matrix.defense=[mean]"]
    result = tiny.run(tmp_path, *overrides)
    assert result.failures == 1
    assert [r["status"] for r in result.records] == ["done", "failed"]
    assert "fewer than min_per_client = 50" in result.records[1]["error"]
    assert (result.root / result.records[1]["id"] / "error.txt").exists()
    # Reports must know what failed, such as which attack: a worst case without it would look too good.
    assert result.records[1]["config"]["partition"]["options"]["min_per_client"] == 50


def test_a_rule_that_cannot_work_is_refused_before_anything_runs(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(InputError, match="trims 3"):
        tiny.run(tmp_path, "matrix.defense=[mean,{name: trimmed_mean, num_trimmed_per_side: 3}]")


def test_other_images_under_the_same_settings_are_another_cell(tmp_path: Path, tiny: Any) -> None:
    path = tiny.file(tmp_path, "dataset: image_folder\n")
    roots = [load_scenario(path, [f"dataset.root={name}"]).cells()[0].id for name in ("a", "b")]
    assert roots[0] != roots[1]


@pytest.mark.parametrize("workers", [0, -1, 10**9])
def test_a_sensible_number_of_workers(tmp_path: Path, tiny: Any, workers: int) -> None:
    with pytest.raises(InputError, match="workers"):
        tiny.run(tmp_path, workers=workers)


def test_a_run_that_cannot_work_at_all_is_bad_input(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(InputError, match="example"):
        tiny.run(tmp_path, "partition.clients=301")


def test_the_second_process_on_a_run_folder_says_so_and_stops(tmp_path: Path, tiny: Any) -> None:
    (tmp_path / "tiny").mkdir()
    with FileLock(tmp_path / "tiny" / ".lock"), pytest.raises(BusyError, match="another fedsec process"):
        tiny.run(tmp_path)


@pytest.mark.parametrize("name", ["n" * 300, "nobody/" * 800, "a\0b"])
def test_a_folder_that_cannot_be_is_bad_input(tmp_path: Path, tiny: Any, name: str) -> None:
    with pytest.raises(InputError, match="cannot be used as a run folder") as caught:
        tiny.run(tmp_path, out=tmp_path / name)
    assert len(str(caught.value)) < 400


def test_cuda_without_a_gpu_is_bad_input(tmp_path: Path, tiny: Any) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is present")
    with pytest.raises(InputError, match="no CUDA GPU"):
        tiny.run(tmp_path, device="cuda")


def test_the_caller_s_threads_are_as_before(tmp_path: Path, tiny: Any) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(tiny.file(tmp_path), overrides=tiny.one_round, out=tmp_path, device="cpu", executor=InProcess())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
