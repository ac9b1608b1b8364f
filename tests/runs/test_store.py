"""A run's folder holds what fedsec wrote and what others put there, and the two are never confused."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.runs.folders.run_folder import RunFolder
from fedsec.runs.store import Store

OTHERS = (
    *("accuracy-final.png", "partition-2.png", "tradeoff.png.bak", ".notes.tmp", ".results.json.0badcafe.tmpx"),
    *("mine/config.yaml", "shared/rows.csv", "shared/mine.safetensors", "leakage/round-0001/reconstruction.png"),
    *(".vim/.session.12345678.tmp", "0123456789ab/config.yaml"),
)


def fill(root: Path) -> dict[Path, bytes]:
    """Put files of others into a folder; their contents by path."""
    files = {root / name: f"mine: {name}".encode() for name in OTHERS}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


@pytest.mark.parametrize("overrides", [(), ("federation.rounds=1",)])
def test_files_of_others_stay_whatever_they_are_called(tmp_path: Path, tiny: Any, overrides: tuple[str, ...]) -> None:
    files = fill(tmp_path / "tiny")
    first = tiny.run(tmp_path, *tiny.one, *overrides)
    inside = first.root / first.records[0]["id"] / "notes.txt"
    inside.write_text("mine")
    for fresh in (False, True):
        tiny.run(tmp_path, *tiny.one, *overrides, fresh=fresh)
        assert {path: path.read_bytes() for path in files} == files
        assert inside.read_text() == "mine"


def test_fresh_runs_again(tmp_path: Path, tiny: Any) -> None:
    root = tiny.run(tmp_path, *tiny.one_round).root
    (result,) = root.glob("*/result.json")
    before = result.stat().st_mtime_ns
    tiny.run(tmp_path, *tiny.one_round, fresh=True)
    assert result.stat().st_mtime_ns > before


@pytest.mark.usefixtures("pictures")
def test_a_file_of_others_with_a_name_of_the_report_s_is_renamed(tmp_path: Path, tiny: Any) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "accuracy.png").write_bytes(b"mine")
    root = tiny.run(tmp_path, *tiny.one).root
    assert (root / "accuracy.png.1").read_bytes() == b"mine"
    assert (root / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    (root / "results.json").write_text("mine, too")
    tiny.run(tmp_path, *tiny.one)
    assert (root / "results.json.1").read_text() == "mine, too"


def test_what_a_killed_process_left_half_written_is_swept_up(tmp_path: Path, tiny: Any) -> None:
    root = tiny.run(tmp_path, *tiny.one).root
    (folder,) = [path.parent for path in root.glob("*/result.json")]
    halves = [root / ".results.json.0badcafe.tmp", folder / ".checkpoint.safetensors.0badcafe.tmp"]
    for path in halves:
        path.write_bytes(b"half")
    tiny.run(tmp_path, *tiny.one)
    assert not any(path.exists() for path in halves)


def ids(results: Path) -> list[str]:
    return [record["id"] for record in json.loads(results.read_text())]


@pytest.mark.usefixtures("pictures")
def test_a_report_about_fewer_cells_takes_no_earlier_one_s_place(tmp_path: Path, tiny: Any) -> None:
    root = tiny.run(tmp_path, "matrix.attack=[none]").root
    picture, numbers = ((root / name).read_bytes() for name in ("accuracy.png", "results.json"))
    both = ids(root / "results.json")
    tiny.run(tmp_path, *tiny.one)
    assert ids(root / "results.json") == both[:1]
    assert (root / "earlier" / "1" / "accuracy.png").read_bytes() == picture
    assert (root / "earlier" / "1" / "results.json").read_bytes() == numbers
    tiny.run(tmp_path, "matrix.attack=[none]")
    assert ids(root / "results.json") == both
    assert not (root / "earlier" / "2").exists(), "nothing is lost where the new report has all of the last one's cells"
    (root / "earlier" / "1" / "mine.txt").write_text("mine")
    changed = root / "earlier" / "1" / "accuracy.png"
    changed.write_bytes(b"mine, too")
    RunFolder(root).remove("all")
    assert sorted(path.name for path in (root / "earlier").rglob("*")) == ["1", "accuracy.png", "mine.txt"]


def test_a_folder_without_a_manifest_has_nothing_of_fedsec_s(tmp_path: Path) -> None:
    files = fill(tmp_path)
    store = Store(tmp_path)
    store.sweep()
    store.clear()
    assert {path: path.read_bytes() for path in files} == files


def test_a_manifest_without_checksums_names_no_files(tmp_path: Path) -> None:
    for use in (lambda store: store.report([], lambda folder: None), Store.clear):
        (tmp_path / "manifest.json").write_text('{"cells": [], "report": {"gone.png": null, "": null}}')
        use(Store(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("manifest", ['{"cells": ["../etc"], "report": {"../x": "", ".lock": ""}}', "[]", "{", "3"])
def test_a_manifest_reaches_nothing_outside_its_folder(tmp_path: Path, manifest: str) -> None:
    root, outside = tmp_path / "run", tmp_path / "x"
    root.mkdir()
    outside.write_bytes(b"")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.yaml").write_bytes(b"")
    (root / "manifest.json").write_text(manifest)
    Store(root).clear()
    assert outside.exists()
    assert (tmp_path / "etc" / "config.yaml").exists()


def test_what_a_worker_without_the_folder_sent_is_written_after_what_it_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cell, order = Store(tmp_path), "0123456789ab", list[str]()
    monkeypatch.setattr("fedsec.runs.cell_files.write_atomic", lambda path, content: order.append(path.name))
    files = ("result.json", "checkpoint.safetensors", "rounds.jsonl", "model.safetensors")
    store.take({f"{cell}/{name}": b'{"goes_on": true}' for name in files}, cell)
    assert order == ["rounds.jsonl", "model.safetensors", "checkpoint.safetensors", "result.json"]


def test_a_cell_that_is_over_leaves_no_checkpoint_of_its_middle(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), "0123456789ab"
    path = tmp_path / cell / "checkpoint.safetensors"
    store.take({f"{cell}/{path.name}": b"after round 3", f"{cell}/error.txt": b"earlier"}, cell)
    store.take({f"{cell}/result.json": b'{"goes_on": true}'}, cell)
    assert path.read_bytes() == b"after round 3"
    store.take({f"{cell}/result.json": b'{"goes_on": false}'}, cell)
    assert [path.name for path in (tmp_path / cell).iterdir()] == ["result.json"]


def test_what_a_curious_server_saw_elsewhere_arrives(tmp_path: Path) -> None:
    names = {f"leakage/round-0001/{name}" for name in ("reconstruction.png", "tiles.png", "tiles.json")}
    Store(tmp_path).take({f"0123456789ab/{name}": b"x" for name in names}, "0123456789ab")
    folder = tmp_path / "0123456789ab"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == names


@pytest.mark.parametrize(
    "name",
    [
        *("other/result.json", "../result.json", "result.json", "manifest.json", "0123456789ab/../x"),
        *("0123456789ab/notes.txt", "0123456789ab/leakage/round-1/../../../reconstruction.png"),
        *("shared/mine.safetensors", "shared/../0123456789abcdef01234567.safetensors"),
    ],
)
def test_a_worker_writes_into_its_cell_and_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no file of"):
        Store(tmp_path / "run").take({name: b"x"}, "0123456789ab")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
