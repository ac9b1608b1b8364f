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
from fedsec.runs.tasks import CellTask, TaskSettings


def senseless(folder: Path) -> CellTask:
    """A task that fails as soon as it is taken up."""
    return CellTask("cell", {}, TaskSettings(folder, "cpu", 1))


def test_two_processes_give_the_same_bits_as_none(whole: Path, tmp_path: Path, tiny: Any) -> None:
    # Both cells under attack, so that one of them is the second of its process at the latest.
    attacked = tiny.run(tmp_path, executor=None, workers=2)
    assert tiny.numbers(attacked.root) == tiny.numbers(whole)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_worker_that_dies_costs_at_most_the_task_that_it_was_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A user's module in the current folder must not take the place of the library's.
    (tmp_path / "statistics.py").write_text("raise RuntimeError('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    with LocalPool(1, 1) as pool:
        (_, started), (_, failed) = pool.run([senseless(tmp_path)])
        assert started == Started()
        assert isinstance(failed, Failed)
        assert "CellConfig" in failed.error, "the worker came as far as reading its task"

        kill(pool)
        events = []
        for index, event in pool.run([senseless(tmp_path)] * 2):
            if not events:
                silence(pool)
            events.append((index, event))
    # Killed before it had taken the first task up, it cost nothing; at the first task, it cost that one alone.
    assert [type(event) for _, event in events] == [Started, Failed, Started, Failed]
    first, second = (event.error for _, event in events if isinstance(event, Failed))
    assert "killed by signal 9" in first
    assert "CellConfig" in second


def kill(pool: LocalPool) -> None:
    """End a pool's only worker, as the out-of-memory killer would."""
    (worker,) = pool._running
    worker.process.kill()
    worker.process.wait()


def silence(pool: LocalPool) -> None:
    """The same, and what it had still said is not heard: it died in the middle of its task."""
    kill(pool)
    (worker,) = pool._running
    assert worker.listener is not None
    worker.listener.join()
    while not pool._events.empty():
        pool._events.get()
    pool._events.put((worker, None))


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
