"""What is told of a run's folder, and what of it can go."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedsec.errors import BusyError
from fedsec.runs.folders.folder import total_size
from fedsec.runs.folders.run_folder import RunFolder


@pytest.fixture
def folder(long_cell: Path, tmp_path: Path) -> Path:
    """A run of one finished cell, to be changed."""
    return Path(shutil.copytree(long_cell, tmp_path / "tiny"))


def the_cell(folder: Path) -> Path:
    (result,) = folder.glob("*/result.json")
    return result.parent


def test_a_finished_run_is_done(folder: Path) -> None:
    assert RunFolder.recognizes(folder)
    state = RunFolder(folder).state()
    assert (state.word, state.finished, state.planned, str(state)) == ("done", 1, 1, "done")
    assert RunFolder(folder).kept.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_run_is_running_while_its_lock_is_held(folder: Path) -> None:
    with FileLock(folder / ".lock"):
        assert str(RunFolder(folder).state()) == "running, 1 of 1"
        with pytest.raises(BusyError, match="is in use now"):
            RunFolder(folder).remove("all")
    assert str(RunFolder(folder).state()) == "done"
    assert (the_cell(folder) / "result.json").exists()


def change_record(folder: Path, **values: Any) -> None:
    path = folder / "results.json"
    path.write_text(json.dumps([{**record, **values} for record in json.loads(path.read_text())]))


def test_what_was_stopped_is_interrupted(folder: Path) -> None:
    change_record(folder, status="pending")
    (the_cell(folder) / "result.json").unlink()
    assert str(RunFolder(folder).state()) == "interrupted, 0 of 1"


def test_a_failed_cell_is_told(folder: Path) -> None:
    (the_cell(folder) / "error.txt").write_text("no")
    (the_cell(folder) / "result.json").unlink()
    assert str(RunFolder(folder).state()) == "1 of 1 failed"


def test_a_refused_cell_is_no_loose_end(folder: Path) -> None:
    change_record(folder, status="refused")
    shutil.rmtree(the_cell(folder))
    assert str(RunFolder(folder).state()) == "done"


def add_cells(folder: Path, *names: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"] += names
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_killed_run_of_more_cells_is_interrupted_though_its_last_report_is_whole(folder: Path) -> None:
    add_cells(folder, "a" * 12, "b" * 12)
    assert str(RunFolder(folder).state()) == "done"  # cells of another matrix that were begun before the report
    begun = folder / ("a" * 12)
    begun.mkdir()
    os.utime(begun, (time.time() + 60,) * 2)
    assert str(RunFolder(folder).state()) == "interrupted, 1 of 3"


def test_a_killed_run_without_a_report_is_counted_by_its_cells(folder: Path) -> None:
    (folder / "results.json").unlink()
    add_cells(folder, "a" * 12)
    assert str(RunFolder(folder).state()) == "interrupted, 1 of 2"


def test_a_broken_manifest_is_told(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")
    assert RunFolder.recognizes(folder)
    (folder / "results.json").write_text("{")
    assert str(RunFolder(folder).state()) == "unreadable"
    assert RunFolder(folder).owned("checkpoints") == []


@pytest.mark.parametrize("part", ["checkpoints", "models"])
def test_what_needs_room_goes_and_the_results_stay_good(folder: Path, tiny: Any, part: Any) -> None:
    left = RunFolder(folder)
    (path,) = left.owned(part)
    size = path.stat().st_size
    assert abs(left.remove(part) - size) < 200  # the result says that it is gone
    assert not path.exists()
    assert not RunFolder(folder).owned(part)
    written = (the_cell(folder) / "result.json").stat().st_mtime_ns
    tiny.run(folder.parent, *tiny.one)
    assert (the_cell(folder) / "result.json").stat().st_mtime_ns == written


def test_a_run_is_extended_from_its_start_where_its_checkpoint_is_gone(folder: Path, tiny: Any) -> None:
    RunFolder(folder).remove("checkpoints")
    (record,) = tiny.run(folder.parent, *tiny.one, "federation.rounds=4").records
    assert record["status"] == "done"


def test_an_unfinished_cell_keeps_its_checkpoint(folder: Path) -> None:
    (the_cell(folder) / "result.json").unlink()
    assert RunFolder(folder).owned("checkpoints") == []


def test_everything_is_what_fedsec_wrote(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (the_cell(folder) / "mine.txt").write_text("mine")
    left = RunFolder(folder)
    size = total_size(left.owned("all"))
    assert left.remove("all") == size
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["mine.txt", "notes.txt"]


def test_a_folder_that_held_nothing_else_goes(folder: Path) -> None:
    left = RunFolder(folder)
    assert total_size(left.owned("all")) == left.kept.size
    left.remove("all")
    assert not folder.exists()


def test_a_link_to_a_folder_stays_and_what_fedsec_wrote_there_goes(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert RunFolder(link).remove("all") > 0
    assert link.is_symlink()
    assert list(folder.iterdir()) == []


def test_files_of_others_among_pictures_stay(folder: Path) -> None:
    cell = the_cell(folder)
    theirs, ours = cell / "leakage" / "round-notes.txt", cell / "leakage" / "round-0001" / "tiles.json"
    ours.parent.mkdir(parents=True)
    for path in (theirs, ours):
        path.write_text("{}")
    RunFolder(folder).remove("all")
    assert [path for path in folder.rglob("*") if path.is_file()] == [theirs]
