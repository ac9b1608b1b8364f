"""Tasks as they are handed to a cluster: what each takes, whether its files travel, how often it was lost."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedsec.cluster.streams import Demand, TaskStreams
from fedsec.files import marked
from fedsec.runs.remote.carried_files import needed_files
from fedsec.runs.remote.needs import Needs
from fedsec.runs.remote.service import serve
from fedsec.runs.store import MANIFEST, Store
from fedsec.runs.tasks import CellTask
from fedsec.scenario import CellConfig


@dataclass
class Assignment:
    """One task, handed over once or, if its worker is lost, again.

    Args:
        task: what is to be done.
        demand: what it takes of a node.
        of: all of a run.
        carry: whether its files travel through Ray.
        node: where it runs, once that was heard.
        losses: how often a worker was lost with it.
        again: whether it is to be handed over again.
    """

    task: CellTask
    demand: Demand
    of: "Assignments" = field(repr=False)
    carry: bool = False
    node: str = ""
    losses: int = 0
    again: bool = False

    @property
    def config(self) -> CellConfig:
        """Of the task's cell."""
        return CellConfig.model_validate(self.task.config)

    def start(self, streams: TaskStreams) -> Any:
        """Hand it over; returns its stream."""
        files = self.of.files(self, streams) if self.carry else []
        mark = None if self.carry else self.of.marks[0]
        content = self.task.to_json()
        return streams.start(serve, content, mark, files, self.of.directory, demand=self.demand)

    def take(self, files: Mapping[str, bytes]) -> None:
        """Put down what came back."""
        if files:
            self.of.store.take(files, self.config.id)


class Assignments:
    """The tasks of a run, and the files that they need; a context manager.

    Args:
        root: the run's folder, absolute.
        needs: estimates what tasks take.
        record: folder of recordings, if any are made.

    Attributes:
        store: of the run's folder.
        marks: files by which nodes tell that they see the run's folder and, if there is one, that of recordings;
            none before the context is entered.
        directory: where the run was started.
        carry: whether files of tasks travel, since some node does not see the folder.
    """

    def __init__(self, root: Path, needs: Needs, record: str | None = None) -> None:
        self.store, self.needs, self.directory = Store(root), needs, str(Path.cwd())
        self.folders = [root] + ([] if record is None else [Path(record)])
        self.marks: list[str] = []
        self.carry = False
        self._stack = ExitStack()
        self._references: dict[Path, Any] = {}

    def __enter__(self) -> Self:
        """Mark the folders."""
        self.marks = [str(self._stack.enter_context(marked(folder, MANIFEST))) for folder in self.folders]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the marks away."""
        self._references.clear()
        self._stack.close()

    def assign(self, task: CellTask) -> Assignment:
        """A task as it is to be handed over."""
        return Assignment(task, self.needs.of(task), self)

    def files(self, assignment: Assignment, streams: TaskStreams) -> list[tuple[str, Any]]:
        """(path below the run's folder, reference) of what a task goes on from. Rows are handed over once for all."""
        from fedsec.runs.shared_updates import row_path
        from fedsec.scenario.shared_training import shared_work

        config, task = assignment.config, assignment.task
        work = shared_work([config], task.settings.device) if task.kind == "cell" else []
        rows = {row_path(self.store.shared, training.key) for training in work}
        files = []
        for name in needed_files(task, self.store, config.id, sorted(rows)):
            path = self.store.root / name
            reference = self._references.get(path) or streams.put(path.read_bytes())
            if path in rows:
                self._references[path] = reference
            files.append((name, reference))
        return files
