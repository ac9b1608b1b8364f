"""What runs on a node: what is missing there, which files travel, how events are gathered; and what a cell takes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import DataError
from fedsec.runs.events import Done, Event, Failed, Said, Started
from fedsec.runs.provenance import provenance
from fedsec.runs.remote import inspection
from fedsec.runs.remote.carried_files import CarriedFiles
from fedsec.runs.remote.inspection import missing
from fedsec.runs.remote.needs import PROCESS_BYTES, estimated_memory
from fedsec.runs.remote.node_report import node_report
from fedsec.runs.remote.service import _batches
from fedsec.runs.tasks import CellTask, TaskSettings
from fedsec.scenario import load_scenario


@pytest.fixture
def task(tmp_path: Path, tiny: Any) -> CellTask:
    """A question about a cell."""
    (cell,) = load_scenario(tiny.file(tmp_path), [*tiny.one]).cells()
    made_with = provenance(cell.config, "cpu", inspection.check("digits").fingerprint)
    settings = TaskSettings(tmp_path / "run", "cpu", 1)
    return CellTask("look", cell.config.model_dump(mode="json"), settings, made_with=made_with)


def test_a_node_with_all_pieces_lacks_nothing(task: CellTask) -> None:
    assert missing(task) == []


def test_what_differs_on_a_node_is_named(task: CellTask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert task.made_with is not None
    other = {**task.made_with, "torch": "0.1", "code of defense mean": "abc"}
    first, second = missing(replace(task, made_with=other))
    assert "torch" in first
    assert "expected 0.1" in first
    assert "code of defense mean" in second

    def absent(*arguments: Any, **options: Any) -> Any:
        raise DataError("digits: not there\nlooked in /data")

    monkeypatch.setattr(inspection, "check", absent)
    assert missing(task) == ["digits: not there looked in /data"]


def test_versions_are_compared_before_fedsec_is_imported(tmp_path: Path) -> None:
    expected = {"torch": "0.1", "no-such-package": "1"}
    (report,) = node_report(expected, [str(tmp_path / "mark")], [{"never": "asked"}], "")
    assert report["problems"][0].endswith(", expected 0.1")
    assert report["problems"][1] == "has no no-such-package, expected 1"
    assert report["sees"] == [False]


def test_a_new_checkpoint_travels_with_its_log_and_the_rest_at_the_end(task: CellTask) -> None:
    with CarriedFiles(task, [("cell/checkpoint.safetensors", b"old"), ("cell/rounds.jsonl", b"1\n")]) as carried:
        folder = carried.task.settings.root / "cell"
        assert (folder / "checkpoint.safetensors").read_bytes() == b"old"
        assert carried.changed(final=False) == {}, "what came is not sent back"
        (folder / "rounds.jsonl").write_bytes(b"1\n2\n")
        assert carried.changed(final=False) == {}, "a log alone is of no use"
        (folder / "checkpoint.safetensors").write_bytes(b"newer")
        expected = {"cell/checkpoint.safetensors": b"newer", "cell/rounds.jsonl": b"1\n2\n"}
        assert carried.changed(final=False) == expected
        (folder / "checkpoint.safetensors").write_bytes(b"newest one")
        assert carried.changed(final=False) == {}, "not at once again"
        (folder / ".model.safetensors.12345678.tmp").write_bytes(b"half")
        (folder / "result.json").write_bytes(b"{}")
        assert carried.changed(final=True) == {
            "cell/checkpoint.safetensors": b"newest one",
            "cell/result.json": b"{}",
        }
    assert not folder.exists()


def test_folders_of_killed_workers_are_removed(task: CellTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, others = tmp_path / f"fedsec-cell-{2**22 + 1}-x", tmp_path / "fedsec-cell-mine"
    dead.mkdir()
    others.mkdir()
    with CarriedFiles(task, []), CarriedFiles(task, []):
        assert not dead.exists()
        assert others.exists()
        assert len(list(tmp_path.glob("fedsec-cell-*-*"))) == 2


def test_the_first_event_and_the_last_are_not_held_back() -> None:
    events = [Started(), *(Said(str(number)) for number in range(50)), Done()]
    batches = list(_batches((0, event) for event in events))
    assert batches[0] == [Started()]
    assert [event for batch in batches for event in batch] == events
    assert len(batches) <= 3

    def broken() -> Iterator[tuple[int, Event]]:
        yield 0, Started()
        raise RuntimeError("no process")

    *_, last = list(_batches(broken()))
    assert isinstance(last[-1], Failed)
    assert last[-1].error == "RuntimeError: no process"


def test_memory_grows_with_clients_model_and_threads(tmp_path: Path, tiny: Any) -> None:
    def estimate(*overrides: str, threads: int = 1) -> int:
        return estimated_memory(load_scenario(tiny.file(tmp_path), overrides).cells()[0].config, threads)

    least = estimate()
    assert PROCESS_BYTES < least < 1.1 * PROCESS_BYTES
    wide, numbers = "model.hidden=[4096]", 64 * 4096 + 4096 + 4096 * 10 + 10
    assert abs(estimate(wide, "partition.clients=30") - estimate(wide)) == 24 * 3 * 4 * numbers
    assert estimate(threads=3) > estimate(threads=2) > least
