"""Cells as tasks of a Ray cluster: the second executor beside the local pool, with the same results to the bit."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from fedsec.cluster.connection import AUTO, Connection, check_address
from fedsec.cluster.nodes import Node
from fedsec.cluster.streams import Demand, LostTaskError, RayStreams, TaskStreams, WrongAnswerError
from fedsec.errors import InputError, size_of
from fedsec.runs.events import Event, Failed, Said, ends, from_json
from fedsec.runs.remote.assignment import Assignment, Assignments
from fedsec.runs.remote.needs import Needs
from fedsec.runs.remote.node_check import check_nodes, gpu_name
from fedsec.runs.remote.service import Piece
from fedsec.runs.tasks import CellTask

MOST_LOSSES = 3
"""How often a task is begun again, or goes on elsewhere, after its worker was lost."""
_LISTEN_SECONDS = 1.0


@dataclass
class RayPool:
    """Runs tasks on a Ray cluster, see `fedsec.runs.executor.Executor`.

    Args:
        address: see `fedsec.cluster.Connection`.
        cpus_per_cell: cores of a cell, and its threads; by default as many threads as in the local pool.
        gpus_per_cell: GPUs of a cell, or a part of one.
        memory_per_cell: GiB of a cell; estimated by default, see `fedsec.runs.remote.needs`.
        most: tasks that run at a time; by default as many as the cluster has room for.
        shared_folder: whether nodes see the run's folder; None: each is asked, and where it does not, files travel
            through Ray.
        say: told what the reader of the run should know.
        streams: what runs functions, for tests; the cluster by default.

    Raises:
        InputError: an argument cannot be.
    """

    address: str = AUTO
    cpus_per_cell: int | None = None
    gpus_per_cell: float | None = None
    memory_per_cell: float | None = None
    most: int | None = None
    shared_folder: bool | None = None
    say: Callable[[str], None] = lambda text: None
    streams: TaskStreams | None = None
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)
    _assignments: Assignments | None = field(default=None, repr=False)
    _work: list[Assignment] = field(default_factory=list, repr=False)
    _running: dict[Any, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_address(self.address)
        bounds = {"cpus_per_cell": (1, 4096), "gpus_per_cell": (0, 64), "memory_per_cell": (0, 2**20)}
        for name, (least, largest) in bounds.items():
            value = getattr(self, name)
            if value is not None and (not least <= value <= largest or (least == 0 and value == 0)):
                expected = f"at least {least}" if least else "more than 0"
                raise InputError(f"{name} must be {expected} and at most {largest}, got {value:g}")
        if (gpus := self.gpus_per_cell or 0) > 1 and gpus != int(gpus):
            raise InputError(f"gpus_per_cell must be a whole number or a part of one GPU, got {gpus:g}")

    def __enter__(self) -> Self:
        """Connect, unless that was done.

        Raises:
            InputError: there is no such cluster, see `fedsec.cluster.Connection`.
        """
        if self.streams is None:
            connection = self._stack.enter_context(Connection(self.address, cores=_cores()))
            self.streams = RayStreams()
            self._stack.callback(setattr, self, "streams", None)
            nodes = self.streams.nodes()
            where = "a cluster of its own on this machine" if connection.started else f"a cluster of {len(nodes)} nodes"
            self.say(f"Ray: {where}, {sum(node.cpus for node in nodes):g} CPUs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what still runs, and disconnect."""
        self.close()

    def close(self) -> None:
        """Cancel what still runs, and disconnect; to be called after `device_name` by whoever runs nothing then."""
        try:
            if self.streams is not None and self._running:
                self.streams.cancel(list(self._running))
        finally:
            self._running.clear()
            self._checked.clear()
            self._assignments = None
            self._stack.close()

    def device(self, name: str) -> str:
        """The device that `auto`, `cpu` or `cuda` is on the nodes: cells get GPUs only where they are asked for.

        Raises:
            InputError: it contradicts `gpus_per_cell`.
        """
        if name not in ("auto", "cpu", "cuda"):
            raise InputError(f"device must be auto, cpu or cuda, got {name!r}")
        if name == "cpu" and self.gpus_per_cell:
            raise InputError("gpus_per_cell is for device auto or cuda; expected one of the two")
        if name == "cuda" and self.gpus_per_cell is None:
            self.gpus_per_cell = 1
        return "cuda" if self.gpus_per_cell else "cpu"

    def device_name(self) -> str:
        """The name of the nodes' GPUs; connects.

        Raises:
            InputError: there are none, or different ones.
        """
        self.__enter__()
        assert self.streams is not None
        return gpu_name(self.streams, Demand(gpus=self.gpus_per_cell or 1))

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        """See `Executor`. A task whose worker is lost goes on from its last checkpoint on another one."""
        if not tasks:
            return
        streams, work = self._assign(tasks)
        self._work = work
        waiting = deque(range(len(tasks)))
        while waiting or self._running:
            room = self._window(work) - len(self._running)
            for _ in range(min(len(waiting), room)):
                index = waiting.popleft()
                self._running[work[index].start(streams)] = index
            for stream in streams.wait(list(self._running), _LISTEN_SECONDS):
                index = self._running[stream]
                events = self._take(streams, stream, work[index])
                if work[index].again or ends(events[-1]):
                    del self._running[stream]
                if work[index].again:
                    work[index].again = False
                    waiting.appendleft(index)
                yield from ((index, event) for event in events)

    def _assign(self, tasks: Sequence[CellTask]) -> tuple[TaskStreams, list[Assignment]]:
        """Find out where the tasks can run.

        Raises:
            InputError: no node has room for one; or some lack something, which is named.
        """
        assert self.streams is not None
        root = tasks[0].settings.root.absolute()
        if self._assignments is None:
            needs = Needs(self.gpus_per_cell or 0, self.memory_per_cell)
            self._assignments = Assignments(root, needs, tasks[0].settings.record)
            self._stack.enter_context(self._assignments)
        threads = self.cpus_per_cell
        settings = [replace(task.settings, root=root, threads=threads or task.settings.threads) for task in tasks]
        work = [
            self._assignments.assign(replace(task, settings=setting))
            for task, setting in zip(tasks, settings, strict=True)
        ]
        check_room(self.streams.nodes(), {assignment.demand for assignment in work})
        check_nodes(self.streams, self._assignments, work, self._checked, shared_folder=self.shared_folder)
        return self.streams, work

    def _window(self, work: Sequence[Assignment]) -> int:
        """How many tasks to hand over: what there is room for, and as many again so that nobody waits for us."""
        assert self.streams is not None
        if self.most is not None:
            return self.most
        smallest = min((assignment.demand for assignment in work), key=lambda demand: (demand.cpus, demand.memory))
        return max(2, 2 * sum(smallest.places(node) for node in self.streams.nodes()))

    def _take(self, streams: TaskStreams, stream: Any, assignment: Assignment) -> list[Event]:
        """The next events of a task; none if its stream is over and it is to begin again."""
        try:
            piece: Piece | None = streams.take(stream)
        except WrongAnswerError as wrong:
            return [Failed(str(wrong), trace=wrong.trace)]
        except LostTaskError as lost:
            return self._lost(assignment, str(lost), out_of_memory=lost.out_of_memory)
        if piece is None:
            return self._lost(assignment, "its worker stopped without an answer")
        if piece["needs_files"]:
            assignment.carry, assignment.again = True, True
            return []
        assignment.node = piece["node"]
        assignment.take(piece["files"])
        events = [from_json(event) for event in piece["events"]]
        match events[-1]:
            case Failed(error, _, _, lost=True):
                events[-1:] = self._lost(assignment, error)
            case Failed(error, is_input, trace) if trace is not None:
                events[-1] = Failed(error, is_input, f"on {assignment.node}\n{trace}")
        return events

    def _lost(self, assignment: Assignment, why: str, *, out_of_memory: bool = False) -> list[Event]:
        """What is said of a task whose worker is gone, and whether it is tried again."""
        assert self.streams is not None
        assignment.losses += 1
        if out_of_memory:
            why = f"its node ran out of memory; it was to need {size_of(assignment.demand.memory)}"
            assignment.demand = more_memory(assignment.demand, self.streams.nodes())
        if assignment.losses > MOST_LOSSES:
            cure = "; expected a larger memory_per_cell, or larger nodes" if out_of_memory else ""
            return [Failed(f"its worker was lost {assignment.losses} times: {why}{cure}", lost=True)]
        assignment.again = True
        where = f" on {assignment.node}" if assignment.node else ""
        return [Said(f"goes on elsewhere, since its worker{where} was lost: {why}")]


def check_room(nodes: Sequence[Node], demands: set[Demand]) -> None:
    """Refuse what would wait for ever.

    Raises:
        InputError: no node has room for a task.
    """
    for demand in demands:
        if not any(demand.places(node) for node in nodes):
            has = "; ".join(f"{node}: {Demand(node.cpus, node.gpus, int(node.memory))}" for node in nodes) or "none"
            raise InputError(
                f"a cell takes {demand}, which no node has ({has}); expected less per cell (cpus_per_cell, "
                "gpus_per_cell, memory_per_cell), or a larger node in the cluster"
            )


def more_memory(demand: Demand, nodes: Sequence[Node]) -> Demand:
    """Twice the memory, or all that the largest node with room for the rest has."""
    most = max((node.memory for node in nodes if replace(demand, memory=0).places(node)), default=demand.memory)
    return replace(demand, memory=max(demand.memory, min(2 * demand.memory, int(most))))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
