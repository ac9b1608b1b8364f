"""Worker processes: as good as none, and each costs at most the task that it was at."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedsec.runs import LocalPool, local_pool
from fedsec.runs.events import Failed, Started, from_json, to_json
from fedsec.runs.tasks import Settings, Task


def senseless(folder: Path) -> Task:
    """A task that fails as soon as it is taken up."""
    return Task("cell", {}, Settings(folder, "cpu", 1))


def test_two_processes_give_the_same_bits_as_none(whole: Path, tmp_path: Path, tiny: Any) -> None:
    # Both cells under attack, so that one of them is the second of its process at the latest.
    attacked = tiny.run(tmp_path, executor=None, workers=2)
    assert tiny.numbers(attacked.root) == tiny.numbers(whole)


def test_files_in_the_current_folder_are_not_imported_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "statistics.py").write_text("raise RuntimeError('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    with LocalPool(1, 1) as pool:
        (_, started), (_, failed) = pool.run([senseless(tmp_path)])
    assert started == Started()
    assert isinstance(failed, Failed)
    assert "CellConfig" in failed.error, "the worker came as far as reading its task"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_worker_that_dies_costs_the_task_that_it_was_at(tmp_path: Path) -> None:
    """Killed from outside (as by the out-of-memory killer) it costs its cell, not the run."""
    with LocalPool(1, 1) as pool:
        events = []
        for index, event in pool.run([senseless(tmp_path)] * 2):
            if not events:
                pool._running[0].process.kill()
                pool._running[0].process.wait()
                # What it had still said is not heard: it died in the middle of its task.
                pool._running[0].listener.join()  # type: ignore[union-attr]
                while not pool._events.empty():
                    pool._events.get()
                pool._events.put((pool._running[0], None))
            events.append((index, event))
    assert [index for index, event in events if isinstance(event, Failed)] == [0, 1]
    killed, senseless_one = (event.error for _, event in events if isinstance(event, Failed))
    assert "killed by signal 9" in killed
    assert "signal" not in senseless_one


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_worker_that_dies_between_two_runs_costs_nothing(tmp_path: Path) -> None:
    with LocalPool(1, 1) as pool:
        list(pool.run([senseless(tmp_path)]))
        pool._running[0].process.kill()
        pool._running[0].process.wait()
        events = [event for _, event in pool.run([senseless(tmp_path)])]
    assert [type(event) for event in events] == [Started, Failed]
    assert "signal" not in events[1].error  # type: ignore[union-attr]


def test_workers_that_never_come_up_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_pool.sys, "executable", "/bin/false" if os.name == "posix" else "false")
    with LocalPool(2, 1) as pool:
        events = list(pool.run([senseless(tmp_path)] * 3))
    assert sorted(index for index, _ in events) == [0, 1, 2]
    assert all(isinstance(event, Failed) and "exit code 1" in event.error for _, event in events)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_worker_leaves_when_its_parent_dies() -> None:
    code = (
        "import sys, time; from fedsec.runs import LocalPool; pool = LocalPool(1, 1); worker = pool._spawn();"
        "print(worker.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    for _ in range(600):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        signal.sigtimedwait([], 0.1)
    pytest.fail("the worker outlives its parent")


@pytest.mark.parametrize("event", [Started(), Failed("why", input=True)])
def test_events_survive_their_way(event: Any) -> None:
    assert from_json(to_json(event)) == event


@pytest.mark.parametrize("content", [None, {}, {"event": "Started", "more": 1}, {"event": "Exploded"}, 3])
def test_what_is_no_event_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="no event"):
        from_json(content)
