"""How tasks are handed over, lost and handed over again: without Ray, on a cluster that does as it is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fedsec.cluster import Node
from fedsec.cluster.streams import Demand, LostTaskError, WrongAnswerError
from fedsec.errors import InputError
from fedsec.runs import RayPool, run
from fedsec.runs.events import Done, Event, Failed, Said, Started, to_json
from fedsec.runs.remote.node_check import gpu_name
from fedsec.runs.remote.service import serve
from fedsec.runs.tasks import CellTask, TaskSettings
from fedsec.scenario import load_scenario

NODE = Node("a" * 12, "worker", "10.0.0.7", cpus=2, gpus=0, memory=8 * 2**30)


class Scripted:
    """TaskStreams whose pieces are written down beforehand: an exception is raised, None ends a stream.

    Args:
        scripts: one for each task that is started, in their order.
        reports: of the nodes, when they are asked.
    """

    def __init__(self, *scripts: list[Any], nodes: Sequence[Node] = (NODE,), reports: Sequence[Any] = ()) -> None:
        self.scripts, self.there = list(scripts), list(nodes)
        self.reports = list(reports) or [{"problems": [], "sees": [True]} for _ in nodes]
        self.open: dict[int, list[Any]] = {}
        self.begun: list[tuple[Demand, tuple[Any, ...]]] = []
        self.most = 0
        self.canceled: list[int] = []

    def nodes(self) -> list[Node]:
        return self.there

    def start(self, function: Any, *arguments: Any, demand: Demand, node: Any = None, by_value: bool = False) -> int:
        stream = len(self.open) + 1000 * (function is not serve)
        while stream in self.open:
            stream += 1
        if function is serve:
            self.begun.append((demand, arguments))
            self.open[stream] = list(self.scripts.pop(0))
        else:
            assert by_value, "the node may have no fedsec"
            self.open[stream] = [self.reports[self.there.index(node)]]
        return stream

    def wait(self, streams: Sequence[int], seconds: float) -> list[int]:
        self.most = max(self.most, len(streams))
        return [streams[-1]]

    def take(self, stream: int) -> Any:
        piece = self.open[stream].pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def put(self, content: bytes) -> bytes:
        return content

    def cancel(self, streams: Sequence[int]) -> None:
        self.canceled += streams


def piece(*events: Event, files: dict[str, bytes] | None = None, needs_files: bool = False) -> dict[str, Any]:
    return {"node": "N", "events": [*map(to_json, events)], "files": files or {}, "needs_files": needs_files}


WELL = [piece(Started()), piece(Done({}))]
LOST = LostTaskError("the node died")
STARVED = LostTaskError("", out_of_memory=True)


@pytest.fixture
def task(tmp_path: Path, tiny: Any) -> CellTask:
    """A cell."""
    (cell,) = load_scenario(tiny.file(tmp_path), [*tiny.one]).cells()
    return CellTask("cell", cell.config.model_dump(mode="json"), TaskSettings(tmp_path / "run", "cpu", 1))


def events_of(streams: Scripted, *tasks: CellTask, **options: Any) -> list[tuple[int, Event]]:
    with RayPool(streams=streams, **options) as pool:
        return list(pool.run(tasks))


def test_a_lost_worker_costs_no_cell(task: CellTask) -> None:
    silent = [piece(Started()), None]
    crashed = [piece(Started()), piece(Failed("killed by signal 11", lost=True))]
    events = [event for _, event in events_of(Scripted([piece(Started()), LOST], silent, crashed, WELL), task)]
    assert [type(event) for event in events] == [Started, Said] * 3 + [Started, Done]
    reasons = ["the node died", "without an answer", "signal 11"]
    assert all(why in event.text for why, event in zip(reasons, events[1::2], strict=False) if isinstance(event, Said))


def test_it_is_given_up_in_the_end(task: CellTask) -> None:
    *said, (_, last) = events_of(Scripted(*[[LOST]] * 4), task)
    assert len(said) == 3
    assert isinstance(last, Failed)
    assert "lost 4 times: the node died" in last.error


def test_what_ran_out_of_memory_is_given_more(task: CellTask) -> None:
    streams = Scripted(*[[STARVED]] * 4)
    *_, (_, last) = events_of(streams, task, memory_per_cell=3)
    assert [demand.memory / 2**30 for demand, _ in streams.begun] == [3, 6, 8, 8]
    assert isinstance(last, Failed)
    assert "ran out of memory" in last.error
    assert "memory_per_cell" in last.error


def test_a_task_that_fails_is_not_tried_again_and_its_trace_says_where(task: CellTask) -> None:
    streams = Scripted(
        [piece(Started()), piece(Failed("ValueError: no", trace="Traceback"))], [WrongAnswerError("x", "y")]
    )
    last = dict(events_of(streams, task, task, most=1))
    assert last == {0: Failed("ValueError: no", trace="on N\nTraceback"), 1: Failed("x", trace="y")}


def test_no_more_is_handed_over_than_will_run_soon(task: CellTask) -> None:
    streams = Scripted(*[list(WELL) for _ in range(12)])
    assert len(events_of(streams, *[task] * 12)) == 24
    assert streams.most == 4, "two run, two wait"
    streams = Scripted(*[list(WELL) for _ in range(3)])
    events_of(streams, *[task] * 3, most=1)
    assert streams.most == 1


def test_files_travel_where_a_node_does_not_see_the_folder(task: CellTask, tmp_path: Path) -> None:
    cell = load_scenario(tmp_path / "tiny.yaml", ["matrix.attack=[none]", "matrix.defense=[mean]"]).cells()[0].id
    folder = tmp_path / "run" / cell
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"old")
    (folder / "error.txt").write_text("earlier")
    late = [piece(needs_files=True)]  # a node that joined after all had been asked
    files = {f"{cell}/result.json": b"{}", f"{cell}/leakage/round-0001/reconstruction.png": b"png"}
    streams = Scripted(late, [piece(Started()), piece(Done({}), files=files)])
    events_of(streams, task)
    (_, first), (_, second) = streams.begun
    assert Path(first[1]).parent == tmp_path / "run"
    assert second[1] is None
    assert second[2] == [(f"{cell}/checkpoint.safetensors", b"old")]
    assert (folder / "leakage/round-0001/reconstruction.png").read_bytes() == b"png"
    assert not (folder / "error.txt").exists()
    for path in ("../x", f"{cell}/../x", "shared/x", f"{cell}/leakage/x.png", "0" * 12 + "/result.json"):
        with pytest.raises(ValueError, match="is no file of"):
            events_of(Scripted([piece(Started(), files={path: b""})]), task)


class Leaving(Scripted):
    """A node whose loss is heard of leaves the list."""

    def take(self, stream: int) -> Any:
        try:
            return super().take(stream)
        except LostTaskError:
            self.there = self.there[:1] if self.some_stay else []
            raise

    some_stay = True


def test_a_node_that_leaves_while_it_is_asked_is_not_needed(task: CellTask) -> None:
    gone = Node("m" * 20, "old", "192.0.2.9", 2.0, 0.0, 8.0 * 2**30)
    report = {"problems": [], "sees": [True]}
    streams = Leaving(list(WELL), nodes=(NODE, gone), reports=[report, LOST])
    assert [type(event) for _, event in events_of(streams, task)] == [Started, Done]
    alone = Leaving(list(WELL), reports=[LOST])
    alone.some_stay = False
    with pytest.raises(InputError, match="left the cluster"):
        events_of(alone, task)


def test_every_node_that_lacks_something_is_named(task: CellTask) -> None:
    other, blind = Node("b" * 12, "old", "10.0.0.8", 2, 0, 2**33), Node("c" * 12, "far", "10.0.0.9", 2, 0, 2**33)
    small = Node("d" * 12, "small", "10.0.0.10", 0, 0, 2**33)  # a head that runs nothing is not asked
    reports = [
        {"problems": [], "sees": [True]},
        {"problems": ["has fedsec 0.0.9, expected 0.1.0"], "sees": [True]},
        {"problems": [], "sees": [False]},
    ]
    nodes = [NODE, other, blind, small]
    with pytest.raises(InputError, match=r"old \(10\.0\.0\.8, node bbbbbbbb\): has fedsec 0\.0\.9") as caught:
        events_of(Scripted(nodes=nodes, reports=reports), task, shared_folder=True)
    assert "far (10.0.0.9, node cccccccc): does not see" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    reports[1] = reports[0]
    streams = Scripted(list(WELL), nodes=nodes, reports=reports)
    events_of(streams, task)
    assert streams.begun[0][1][1] is None, "one node does not see the folder: files travel"


def test_gpus_must_be_of_one_kind() -> None:
    nodes = [Node(letter * 12, letter, "10.0.0.1", 1, 1, 2**33) for letter in "ab"]
    assert gpu_name(Scripted(nodes=nodes, reports=["X", "X"]), Demand(gpus=1)) == "X"
    with pytest.raises(InputError, match="one kind of GPU"):
        gpu_name(Scripted(nodes=nodes, reports=["X", "Y"]), Demand(gpus=1))
    with pytest.raises(InputError, match="no node of the Ray cluster has 2 GPUs"):
        gpu_name(Scripted(nodes=nodes, reports=["X", "X"]), Demand(gpus=2))


def test_what_runs_is_canceled_when_the_run_ends_early(task: CellTask) -> None:
    streams = Scripted(list(WELL))
    with RayPool(streams=streams) as pool:
        next(pool.run([task]))
    assert len(streams.canceled) == 1
    assert not list(task.settings.root.glob(".*")), "nor does the mark stay"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ray": "auto", "cpus_per_cell": 0}, "cpus_per_cell must be at least 1"),
        ({"ray": "auto", "gpus_per_cell": 1.5}, "gpus_per_cell must be a whole number"),
        ({"ray": "auto", "memory_per_cell": 0}, "memory_per_cell must be more than 0"),
        ({"ray": "auto", "gpus_per_cell": 1, "device": "cpu"}, "gpus_per_cell is for device auto or cuda"),
        ({"ray": "nowhere"}, "expected auto, local, or host:port"),
        ({"cpus_per_cell": 2}, "for Ray; expected ray=auto as well"),
        ({"ray": "auto", "executor": RayPool()}, "expected one of the two"),
    ],
)
def test_options_that_cannot_be_are_refused_before_ray_is_asked(
    options: dict[str, Any], problem: str, tmp_path: Path, tiny: Any
) -> None:
    with pytest.raises(InputError, match=problem):
        run(tiny.file(tmp_path), out=tmp_path, **options)


def test_gpus_are_for_those_who_ask() -> None:
    assert RayPool().device("auto") == "cpu"
    assert RayPool(gpus_per_cell=0.25).device("auto") == "cuda"
    pool = RayPool()
    assert pool.device("cuda") == "cuda"
    assert pool.gpus_per_cell == 1
