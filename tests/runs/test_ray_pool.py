"""Runs on a real Ray cluster of several nodes: the bits of a local run, whatever happens to nodes and however often.

One cluster for all tests, and but for the last ones one connection, so that workers and what they have loaded stay.
"""

import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedsec.cluster import Connection, require_ray
from fedsec.errors import InputError
from fedsec.runs import RayPool, RunResult
from fedsec.runs.events import Done, Event, Failed, RoundDone, Said
from fedsec.runs.tasks import CellTask, TaskSettings
from fedsec.scenario import load_scenario

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="clusters of several nodes on one machine are POSIX"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
LONG = ("matrix.attack=[none]", "federation.rounds=400", "federation.local.steps=2", "federation.evaluate_every=100")
"""Two cells that take long enough to be disturbed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and another node of one CPU each."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets lie in it, whose paths must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_worker_niceness", "0")  # by default all other tests go first, and these end last
        patch.delenv("RAY_ADDRESS", raising=False)
        require_ray()
        from ray.cluster_utils import Cluster

        alone = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        cluster = Cluster(initialize_head=True, head_node_args={**node(1), **alone})
        cluster.add_node(**node(1))
        yield cluster
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            cluster.shutdown()
            del cluster
            gc.collect()  # Ray leaves files open, which a test after this one would be blamed for
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def connected(cluster: Any) -> Iterator[str]:
    """The address of the cluster, to which this process stays connected."""
    with Connection(cluster.address):
        yield cluster.address


def node(cpus: int, **more: Any) -> dict[str, Any]:
    return {"num_cpus": cpus, "object_store_memory": 80 * 2**20, **more}


class Watched(RayPool):
    """Calls a function with every event, before the run hears of it."""

    watch: Callable[[int, Event], None] = staticmethod(lambda index, event: None)

    def run(self, tasks: Any) -> Iterator[tuple[int, Event]]:
        for index, event in super().run(tasks):
            self.watch(index, event)
            yield index, event


def watched(address: str, watch: Callable[[RayPool, int, Event], None], **options: Any) -> Watched:
    pool = Watched(address, **options)
    pool.watch = lambda index, event: watch(pool, index, event)  # type: ignore[method-assign]
    return pool


def console() -> Any:
    from rich.console import Console

    return Console(record=True, file=io.StringIO(), width=300)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """The folder of an uninterrupted local run of two long cells."""
    result: RunResult = tiny.run(tmp_path_factory.mktemp("long"), *LONG)
    return result.root


def test_a_node_is_killed_in_mid_run_and_all_cells_end_with_the_bits_of_a_local_run(
    cluster: Any, connected: str, tmp_path: Path, tiny: Any, long_run: Path
) -> None:
    (victim,) = cluster.worker_nodes
    said: list[str] = []

    def kill(pool: RayPool, index: int, event: Event) -> None:
        if isinstance(event, RoundDone) and cluster.worker_nodes and victim.node_id[:8] in pool._work[index].node:
            cluster.remove_node(victim, allow_graceful=False)
        if isinstance(event, Said):
            said.append(event.text)

    result = tiny.run(tmp_path, *LONG, executor=watched(connected, kill))
    assert [record["status"] for record in result.records] == ["done"] * 2
    assert any("its worker on" in text and "was lost" in text for text in said), said
    assert tiny.numbers(result.root) == tiny.numbers(long_run)
    assert not list(result.root.glob(".*.tmp")), "the mark by which nodes know the folder is gone"


def test_what_ray_finished_is_finished_for_a_local_run(connected: str, tmp_path: Path, tiny: Any, whole: Path) -> None:
    result = tiny.run(tmp_path, executor=None, ray=connected, console=(shown := console()))
    assert tiny.numbers(result.root) == tiny.numbers(whole)
    assert "Ray: a cluster of" in shown.export_text()
    tiny.run(tmp_path, console=(shown := console()))
    assert "4 of 4 cells are already finished" in shown.export_text()


def test_without_a_shared_folder_files_travel_and_either_executor_goes_on_from_the_other(
    connected: str, tmp_path: Path, tiny: Any, long_run: Path
) -> None:
    def interrupt(pool: RayPool, index: int, event: Event) -> None:
        if isinstance(event, RoundDone) and list((tmp_path / "tiny").glob("*/checkpoint.safetensors")):
            raise KeyboardInterrupt

    pool = watched(connected, interrupt, shared_folder=False)
    assert tiny.run(tmp_path, *LONG, executor=pool).interrupted
    shutil.copytree(tmp_path / "tiny", tmp_path / "twin" / "tiny")
    for folder, executor in (
        (tmp_path, {}),
        (tmp_path / "twin", {"executor": RayPool(connected, shared_folder=False)}),
    ):
        result = tiny.run(folder, *LONG, **executor, console=(shown := console()))
        assert "continues after round" in shown.export_text()
        assert tiny.numbers(result.root) == tiny.numbers(long_run)


def test_shared_training_travels_as_well(connected: str, tmp_path: Path, tiny: Any) -> None:
    overrides = ("federation.rounds=1", "matrix.attack=[none]")
    expected = tiny.numbers(tiny.run(tmp_path, *overrides, out=tmp_path / "local").root)
    rows: set[str] = set()

    def look(pool: RayPool, index: int, event: Event) -> None:
        rows.update(path.name for path in (tmp_path / "tiny" / "shared").glob("*.safetensors"))

    result = tiny.run(tmp_path, *overrides, executor=watched(connected, look, shared_folder=False))
    assert len(rows) == 6, "each client is trained once, for both cells"
    assert tiny.numbers(result.root) == expected


def test_a_failing_cell_fails_alone_and_says_why_and_where(connected: str, tmp_path: Path, tiny: Any) -> None:
    (config,) = [cell.config for cell in load_scenario(tiny.file(tmp_path), [*tiny.one]).cells()]
    content = config.model_dump(mode="json")
    (tmp_path / "run").mkdir()
    good, bad = (TaskSettings(tmp_path / "run", "cpu", threads) for threads in (1, 0))
    with RayPool(connected) as pool:
        events = list(pool.run([CellTask("cell", content, bad), CellTask("cell", content, good)]))
    last = dict(events)
    assert isinstance(last[1], Done)
    assert isinstance(failed := last[0], Failed)
    assert "set_num_threads" in failed.error
    assert failed.trace is not None
    assert failed.trace.startswith("on ")
    assert "Traceback" in failed.trace


def test_a_node_that_lacks_something_is_named_before_anything_runs(
    cluster: Any, connected: str, tmp_path: Path, tiny: Any
) -> None:
    other = tmp_path / "packages" / "torch-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    late = cluster.add_node(**node(1, env_vars={"PYTHONPATH": str(other.parent)}))
    try:
        with pytest.raises(InputError, match=r"has torch 0\.1, expected") as caught:
            tiny.run(tmp_path, executor=None, ray=connected)
    finally:
        cluster.remove_node(late)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 1
    assert f"node {late.node_id[:8]}" in lines[0]
    assert not list((tmp_path / "tiny").glob("*/rounds.jsonl"))


def test_a_cell_that_no_node_has_room_for_is_refused(connected: str, tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(InputError, match=r"a cell takes 3 CPUs and .* which no node has"):
        tiny.run(tmp_path, executor=None, ray=connected, cpus_per_cell=3)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_cancels_and_keeps_what_is_finished(cluster: Any, tmp_path: Path, tiny: Any) -> None:
    command = [sys.executable, "-m", "fedsec", "run", str(tiny.file(tmp_path)), "--ray", cluster.address]
    options = ["--out", str(tmp_path), "--set", "federation.rounds=50000", "--set", "matrix.attack=[none]"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while not checkpoints(tmp_path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "run the same command again" in output
    assert "continues at round" in output
    assert "Traceback" not in output
    written = checkpoints(tmp_path)
    time.sleep(1)
    assert checkpoints(tmp_path) == written, "nobody works on"


def checkpoints(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "tiny").glob("*/checkpoint.safetensors")}
