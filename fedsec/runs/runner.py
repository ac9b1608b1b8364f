"""Run a scenario: every cell of its matrix once, in parallel, resumable, with a report at the end."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from fedsec.errors import InputError, count_of
from fedsec.report.console import closing_console, default_console, say
from fedsec.report.progress import RunProgress
from fedsec.report.progress_lines import activity
from fedsec.report.summary import describe
from fedsec.runs.closing import Closing
from fedsec.runs.datasets import Datasets, look
from fedsec.runs.events import Begun, Done, Failed, RoundDone, Said, Started, ends
from fedsec.runs.executor import Executor, InProcess
from fedsec.runs.local_pool import LocalPool
from fedsec.runs.logs.choice import logs_of
from fedsec.runs.logs.feed import LogFeed
from fedsec.runs.logs.run_log import LoggedRun, Outcome, RunLog
from fedsec.runs.provenance import differences, forget, provenance
from fedsec.runs.remote.ray_pool import RayPool
from fedsec.runs.result import RunResult
from fedsec.runs.sharded.executor import ShardedCells
from fedsec.runs.store import Store
from fedsec.runs.tasks import CellTask, TaskSettings
from fedsec.scenario import Cell, CellConfig, Scenario, load_scenario
from fedsec.scenario.continuation import extends
from fedsec.scenario.plan import check_scenario
from fedsec.scenario.refusals import refusals

_MOST_WORKERS = 1024
_MOST_NAMED = 3


def run(
    scenario: Scenario | Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    out: Path | str = "runs",
    workers: int | None = None,
    device: str = "auto",
    fresh: bool = False,
    keep: bool = False,
    console: Console | None = None,
    executor: Executor | None = None,
    record: Path | str | None = None,
    ray: str | None = None,
    cpus_per_cell: int | None = None,
    gpus_per_cell: float | None = None,
    memory_per_cell: float | None = None,
    memory_gib: float | None = None,
    actors_per_cell: int | None = None,
    full: bool = False,
    log: str | RunLog | Sequence[str | RunLog] | None = None,
) -> RunResult:
    """Run a scenario, or finish one that was interrupted.

    Finished cells are not run again, unless the code, the data or the versions that their numbers come from changed
    (see `fedsec.runs.provenance`), or a file of theirs did; which ones, and why, is said.

    Args:
        scenario: a scenario; the path of a scenario file, or the name of one that comes with fedsec; or a mapping of
            what stands in one.
        overrides: `key.path=value` settings, as `--set` takes them (for none that is loaded).
        out: folder of all runs; this one's is `out/<name>`.
        workers: worker processes; by default one a core, at most one a cell. With Ray, cells that run at a time.
        device: `auto`, `cpu` or `cuda`.
        fresh: forget what an earlier run of this scenario left.
        keep: take what other code, data or versions left as it is, instead of running it again.
        console: where to report; by default a notebook has a line of progress, and elsewhere nothing is shown.
        executor: who runs the cells, such as `InProcess()`; by default worker processes on this machine.
        record: folder for a recording of what each cell's server receives, `record/<cell id>`, which `fedsec.replay`
            reads. Finished cells that are not recorded there are run again.
        ray: run the cells on a Ray cluster: `auto`, or `host:port` of its head, see `RayPool`.
        cpus_per_cell: with Ray, cores of a cell, and its threads.
        gpus_per_cell: with Ray, GPUs of a cell, or a part of one.
        memory_per_cell: with Ray, GiB of a cell; estimated by default.
        memory_gib: what a cell's matrix of a round's updates may take; larger ones pass the rule by or lie on disk. By
            default what is free.
        actors_per_cell: with Ray, run one cell after another, each with the clients of its rounds on so many actors:
            for models of which one round does not fit one machine, see `ShardedCells`.
        full: show all rows of long tables, instead of the most telling ones.
        log: where rounds and results are logged as they come, beside the run's folder: `tensorboard` or
            `tensorboard:DIR`, `mlflow` or `mlflow:URI`, a `RunLog` of one's own, or several. A log that fails ends
            itself, never the run.

    Raises:
        InputError: the scenario cannot be run as it is.
        BusyError: another process is running it in the same folder.
    """
    if isinstance(scenario, Scenario):
        if overrides:
            raise InputError("overrides apply to a scenario file; this scenario is already loaded")
    else:
        scenario = load_scenario(scenario, overrides)
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise InputError(f"workers must be at least 1 and at most {_MOST_WORKERS}, got {workers}")
    if memory_gib is not None and not 0 < memory_gib < float("inf"):
        raise InputError(f"memory_gib must be a positive number of GiB, got {memory_gib}")
    if fresh and keep:
        raise InputError("fresh=True forgets what keep=True would keep; expected one of the two")
    per_cell = {
        "cpus_per_cell": cpus_per_cell,
        "gpus_per_cell": gpus_per_cell,
        "memory_per_cell": memory_per_cell,
    }
    if ray is not None:
        if executor is not None:
            raise InputError("ray and executor both say who runs the cells; expected one of the two")
        if actors_per_cell is None:
            executor = RayPool(ray, most=workers, **per_cell)  # type: ignore[arg-type]
        else:
            others: dict[str, object] = {"gpus_per_cell": gpus_per_cell, "memory_per_cell": memory_per_cell}
            others |= {"memory_gib": memory_gib, "workers": workers, "record": record}
            for name, value in others.items():
                if value is not None:
                    raise InputError(f"{name}: is for cells of which each is on one node; expected no actors_per_cell")
            executor = ShardedCells(actors_per_cell, ray, cpus=cpus_per_cell)
    elif actors_per_cell is not None or any(value is not None for value in per_cell.values()):
        raise InputError(f"{', '.join(per_cell)}, actors_per_cell are for Ray; expected ray=auto as well")
    console = default_console(console)
    if isinstance(executor, RayPool):
        executor.say = partial(say, console)
    store = Store(Path(out) / scenario.name)
    feed = LogFeed(logs_of(log, store.root), partial(say, console))
    with store.locked():
        store.sweep()
        check_scenario(scenario)
        chosen = executor.device(device) if isinstance(executor, RayPool) else _device(device)
        with activity(console, "looking at the data"):
            datasets = look(scenario, lambda name: say(console, f"downloading {name}"))
        for note in datasets.notes:
            say(console, f"note: {note}")
        # Only what can be run takes the place of what was.
        if fresh:
            store.clear()
        recordings = None if record is None else str(Path(record).resolve())
        try:
            return _Run(
                scenario, store, chosen, datasets, workers, console, feed, keep, executor, recordings, memory_gib, full
            ).finish()
        finally:
            if isinstance(executor, RayPool):
                executor.close()


@dataclass
class _Run:
    scenario: Scenario
    store: Store
    device: str
    datasets: Datasets
    workers: int | None
    console: Console
    feed: LogFeed
    keep: bool = False
    executor: Executor | None = None
    record: str | None = None
    memory_gib: float | None = None
    full: bool = False
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[InputError] = field(default_factory=list)
    made_with: dict[str, dict[str, str]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def finish(self) -> RunResult:
        cells = self.scenario.cells()
        cores = available_cores()
        # Clients of a one-round cell train one by one, on a thread each.
        one_round = any(cell.config.federation.rounds == 1 for cell in cells)
        threads = 1 if one_round else max(1, cores // len(cells))
        if type(self.executor) is not InProcess:  # which computes with what it has imported
            forget()
        self.made_with = self._provenance(cells)
        refused = refusals(cells)
        self._take_finished([cell for cell in cells if cell.id not in refused])
        for cell in cells:
            if cell.id in refused:
                self.records[cell.id] = _empty(cell, "refused", refused[cell.id])
        pending = [cell for cell in cells if cell.id not in self.records]
        self.feed.open(LoggedRun(self.scenario.name, self.scenario.description.strip(), self.store.root))
        for cell in cells:
            if cell.id in self.records and self.records[cell.id]["status"] == "done":
                self.feed.done(cell, self.records[cell.id], self.records[cell.id].get("made_with") or {})
        interrupted = False
        if pending:
            self.origins = self._origins(pending)
            self.store.enter(cell.id for cell in cells)
            # One process has a GPU to itself unless told otherwise: memory is planned for one.
            usual = 1 if self.device == "cuda" else max(1, cores // threads)
            workers = min(self.workers or usual, max(len(pending), cores))
            settings = TaskSettings(
                self.store.root, self.device, threads, self.keep, self.record, memory_gib=self.memory_gib
            )
            try:
                with (
                    self.executor or LocalPool(workers, threads) as executor,
                    RunProgress(self.console, cells) as progress,
                ):
                    for cell in cells:
                        if cell.id in self.records:
                            progress.done(cell, self.records[cell.id])
                    if self.executor is None:
                        progress.announce(f"starting {count_of(min(workers, len(pending)), 'worker')}")
                    self._train_shared(executor, progress, pending, settings)
                    self._run_cells(executor, progress, pending, settings)
            except KeyboardInterrupt:
                interrupted = True
        if all(cell.id in self.records and self.records[cell.id]["status"] in ("done", "refused") for cell in cells):
            self.store.give_back()
        ordered = [self.records.get(cell.id) or _empty(cell, "pending", None) for cell in cells]
        if len(self.errors) == len(cells):
            self.feed.close("failed", [])
            raise self.errors[0]
        if self.record is not None:
            self._say(f"recordings: {self.record}, a folder a cell; fedsec replay FOLDER looks back at one")
        result = Closing(self.scenario, self.store, closing_console(self.console), self.full).close(
            ordered, interrupted=interrupted
        )
        outcome: Outcome = "interrupted" if interrupted else "failed" if result.failures else "finished"
        self.feed.close(outcome, [self.store.root / name for name in self.store.report_files()])
        return result

    def _provenance(self, cells: Sequence[Cell]) -> dict[str, dict[str, str]]:
        """What each cell would be made with, by its id."""
        name = None
        if isinstance(self.executor, RayPool) and self.device == "cuda":
            name = self.executor.device_name()
        return {
            cell.id: provenance(cell.config, self.device, self.datasets.fingerprint(cell.config), name)
            for cell in cells
        }

    def _origins(self, pending: Sequence[Cell]) -> dict[str, str]:
        """For each cell that a finished one with fewer rounds is the beginning of, the id of the longest such one."""
        best: dict[str, tuple[int, str]] = {}
        for cell_id in set(self.store.cells()) - {cell.id for cell in pending}:
            record, _ = self.store.cell(cell_id).result()
            if record is None or not record.get("goes_on"):
                continue
            try:
                shorter = CellConfig.model_validate(record["config"])
            except ValueError:  # of a version that wrote configurations otherwise
                continue
            for cell in pending:
                # The seed alone tells most cells apart, and is quickly compared.
                if cell.config.seed == shorter.seed and extends(cell.config, shorter):
                    best[cell.id] = max(best.get(cell.id, (0, "")), (shorter.federation.rounds, cell_id))
        return {cell_id: origin for cell_id, (_, origin) in best.items()}

    def _take_finished(self, cells: Sequence[Cell]) -> None:
        """Take the results of cells that an earlier run finished and that still hold; say why others do not."""
        reasons: dict[str, list[Cell]] = {}
        outdated: dict[str, list[Cell]] = {}
        for cell in cells:
            record, why = self.store.cell(cell.id).result()
            if record is not None:
                other = differences(record.get("made_with") or {}, self.made_with[cell.id])
                why = f"other {', '.join(other)} than now" if other else None
                if why is not None and self.keep:
                    outdated.setdefault(why, []).append(cell)
                    why = None
            if record is not None and why is None and self.record is not None:
                from fedsec.runs.recorded import is_recorded  # with PyTorch, which nodes load in a child only

                why = None if is_recorded(self.record, cell.id) else "not recorded yet"
            if why is not None:
                reasons.setdefault(why, []).append(cell)
            elif record is not None:
                self.records[cell.id] = {**record, "cell": cell.axes}
        if self.records:
            number, place = len(self.records), self.store.root
            finished = f"{'is' if number == 1 else 'are'} already finished in {place}"
            self._say(f"{number} of {count_of(len(cells), 'cell')} {finished}")
        for why, concerned in list(outdated.items())[:_MOST_NAMED]:
            self._say(f"kept as they are: {_whose(concerned)}: {why}")
        if rest := list(outdated.values())[_MOST_NAMED:]:
            self._say(f"kept as they are: {count_of(sum(map(len, rest)), 'more cell')}, for reasons like these")
        for why, concerned in reasons.items():
            hint = "; --keep takes them as they are" if why.startswith("other") else ""
            self._say(f"run again: {_whose(concerned)}: {why}{hint}")

    def _train_shared(
        self, executor: Executor, progress: RunProgress, pending: Sequence[Cell], settings: TaskSettings
    ) -> None:
        """Do the local training that several one-round cells share, client by client."""
        if not any(cell.config.federation.rounds == 1 for cell in pending):
            return
        from fedsec.runs.shared_updates import is_kept
        from fedsec.scenario.shared_training import shared_work

        missing = [
            training
            for training in shared_work([cell.config for cell in pending], self.device)
            for cell in [pending[training.cell]]
            if not is_kept(self.store.shared, training, cell.config, self.made_with[cell.id], keep=self.keep)
        ]
        tasks = [self._task("train", pending[training.cell], settings, training.client) for training in missing]
        done = 0
        if tasks:
            progress.shared(0, len(tasks))
        for _, event in executor.run(tasks):
            if ends(event):  # a failure will be met again, and reported, by its cell
                done += 1
                progress.shared(done, len(tasks))

    def _run_cells(
        self, executor: Executor, progress: RunProgress, pending: Sequence[Cell], settings: TaskSettings
    ) -> None:
        tasks = [self._task("cell", cell, settings) for cell in pending]
        for index, event in executor.run(tasks):
            cell = pending[index]
            match event:
                case Started():
                    progress.start(cell)
                    self.feed.begin(cell, self.made_with[cell.id])
                case Begun(number):
                    progress.begin(cell, number)
                case RoundDone(number, rounds, metrics):
                    progress.update(cell, number, rounds, metrics)
                    self.feed.round_done(cell, number, metrics)
                case Said(text):
                    self._say(f"{describe(cell.axes)}: {text}")
                case Failed(error, is_input, trace):
                    if is_input:
                        self.errors.append(InputError(error))
                    self.store.cell(cell.id).fail(trace or error + "\n")
                    self._take(progress, cell, _empty(cell, "failed", error))
                case Done(record):
                    assert record is not None
                    self._take(progress, cell, record)

    def _take(self, progress: RunProgress, cell: Cell, record: dict[str, Any]) -> None:
        self.records[cell.id] = record
        self.feed.done(cell, record, self.made_with[cell.id])
        progress.done(cell, record)

    def _task(
        self, kind: Literal["cell", "train"], cell: Cell, settings: TaskSettings, client: int | None = None
    ) -> CellTask:
        content = cell.config.model_dump(mode="json")
        return CellTask(kind, content, settings, cell.axes, self.made_with[cell.id], self.origins.get(cell.id), client)

    def _say(self, text: str) -> None:
        say(self.console, text)


def _whose(cells: Sequence[Cell]) -> str:
    """One cell by its place, several by their number."""
    return describe(cells[0].axes) if len(cells) == 1 else f"{len(cells)} cells"


def available_cores() -> int:
    """CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _device(name: str) -> str:
    """`auto` and `cuda` resolved to what is there; torch is only imported where a GPU may be."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cpu" or (name == "auto" and os.name == "posix" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise InputError("device cuda was asked for, but PyTorch finds no CUDA GPU; use --device cpu")
    return "cpu"


def _empty(cell: Cell, status: str, error: str | None) -> dict[str, Any]:
    """The record of a cell without results; its configuration tells reports what is missing, such as an attack."""
    return {
        "id": cell.id,
        "cell": cell.axes,
        "status": status,
        "metrics": {},
        "error": error,
        "seconds": 0.0,
        "config": cell.resolved,
    }
