"""Run a scenario: every cell of its matrix once, in parallel, resumable, with a report at the end."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from fedsec.errors import BusyError, InputError
from fedsec.files import read_json, remove_unfinished, write_atomic
from fedsec.report import run_report as report
from fedsec.report.progress import Progress
from fedsec.report.summary import describe
from fedsec.runs.pool import WorkerPool
from fedsec.scenario import Cell, Scenario, load_scenario
from fedsec.scenario.plan import rehearse

_MOST_PICTURES = 10


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Args:
        root: the run folder.
        records: one record a cell, in the matrix's order; see `results.json`.
        failures: number of cells that failed.
        unmet: expectations that were not met, as text.
        interrupted: whether the run was stopped before its end.
    """

    root: Path
    records: list[dict[str, Any]]
    failures: int
    unmet: list[str]
    interrupted: bool


def run(
    scenario: Scenario | Path | str,
    *,
    overrides: Sequence[str] = (),
    out: Path | str = "runs",
    workers: int | None = None,
    device: str = "auto",
    fresh: bool = False,
    console: Console | None = None,
) -> RunResult:
    """Run a scenario, or finish one that was interrupted.

    Args:
        scenario: a scenario, or the path of a scenario file.
        overrides: `key.path=value` settings, as `--set` takes them (for a path only).
        out: folder of all runs; this one's is `out/<name>`.
        workers: worker processes; by default one a core, at most one a cell.
        device: `auto`, `cpu` or `cuda`.
        fresh: forget what an earlier run of this scenario left.
        console: where to report; None for silence.

    Raises:
        InputError: the scenario cannot be run as it is.
        BusyError: another process is running it in the same folder.
    """
    if isinstance(scenario, Scenario):
        if overrides:
            raise InputError("overrides apply to a scenario file; this scenario is already loaded")
    else:
        scenario = load_scenario(Path(scenario), overrides)
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    console = console or Console(quiet=True)
    root = Path(out) / scenario.name
    with _locked(root):
        remove_unfinished(root)
        rehearse(scenario)
        chosen = _device(device)
        # Only what can be run takes the place of what was.
        if fresh:
            _clear(root)
        return _Run(scenario, root, chosen, workers, console).finish()


@dataclass
class _Run:
    scenario: Scenario
    root: Path
    device: str
    workers: int | None
    console: Console

    def finish(self) -> RunResult:
        cells = self.scenario.cells()
        cores = available_cores()
        # Clients of a one-round cell train one by one, on a thread each.
        one_round = any(cell.config.federation.rounds == 1 for cell in cells)
        threads = 1 if one_round else max(1, cores // len(cells))
        records: dict[str, dict[str, Any]] = {}
        for cell in cells:
            finished = _finished(self.root / cell.id)
            if finished is not None:
                records[cell.id] = {**finished, "cell": cell.axes}
        pending = [cell for cell in cells if cell.id not in records]
        if records:
            self.console.print(f"{len(records)} of {len(cells)} cells are already finished in {self.root}")
        errors: list[InputError] = []
        interrupted = False
        if pending:
            # One process has a GPU to itself unless told otherwise: memory is planned for one.
            usual = 1 if self.device == "cuda" else max(1, cores // threads)
            workers = min(self.workers or usual, max(len(pending), cores))
            try:
                with WorkerPool(workers, threads) as pool, Progress(self.console, cells) as progress:
                    for cell in cells:
                        if cell.id in records:
                            progress.done(cell, records[cell.id])
                    self._train_shared(pool, progress, pending, threads)
                    self._run_cells(pool, progress, pending, threads, records, errors)
            except KeyboardInterrupt:
                interrupted = True
        ordered = [records.get(cell.id) or _empty(cell, "pending", None) for cell in cells]
        failures = sum(record["status"] == "failed" for record in ordered)
        if failures == len(cells) and len(errors) == failures:
            raise errors[0]
        return self._report(ordered, failures, interrupted)

    def _train_shared(self, pool: WorkerPool, progress: Progress, pending: list[Cell], threads: int) -> None:
        """Do the local training that several one-round cells share, client by client."""
        if not any(cell.config.federation.rounds == 1 for cell in pending):
            return
        from fedsec.scenario.shared_training import shared_work

        work = shared_work([cell.config for cell in pending], self.root / "shared", self.device)
        tasks = [self._task("train", pending[index], threads, client=client) for index, client in work]
        done = 0
        if tasks:
            progress.shared(0, len(tasks))
        for _, event in pool.run(tasks):
            if event["event"] in ("done", "failed"):  # a failure will be met again, and reported, by its cell
                done += 1
                progress.shared(done, len(tasks))

    def _run_cells(
        self,
        pool: WorkerPool,
        progress: Progress,
        pending: list[Cell],
        threads: int,
        records: dict[str, dict[str, Any]],
        errors: list[InputError],
    ) -> None:
        tasks = [self._task("cell", cell, threads, axes=cell.axes) for cell in pending]
        for index, event in pool.run(tasks, on_start=lambda index: progress.start(pending[index])):
            cell = pending[index]
            if event["event"] == "round":
                progress.update(cell, event["round"], event["rounds"], event["metrics"])
                continue
            if event["event"] == "failed":
                record = _empty(cell, "failed", event["error"])
                if event["input"]:
                    errors.append(InputError(event["error"]))
                write_atomic(self.root / cell.id / "error.txt", event["trace"] or event["error"] + "\n")
            else:
                record = event["record"]
            records[cell.id] = record
            progress.done(cell, record)

    def _task(self, kind: str, cell: Cell, threads: int, **more: Any) -> dict[str, Any]:
        config = cell.config.model_dump(mode="json")
        common = {"kind": kind, "root": str(self.root), "device": self.device, "threads": threads}
        return {**common, "config": config, **more}

    def _report(self, records: list[dict[str, Any]], failures: int, interrupted: bool) -> RunResult:
        for stale in [
            *self.root.glob("accuracy*.png"),
            *self.root.glob("partition*.png"),
            *self.root.glob("tradeoff.png"),
        ]:
            stale.unlink()
        report.write_results(self.root, records)
        done = [record for record in records if record["status"] == "done"]
        unmet: list[str] = []
        if done:
            report.draw_partitions(self.root, done)
            report.draw_curves(self.root, report.trained_once(done))
            report.draw_tradeoff(self.root, done)
            trained = report.trained_once(records)
            self.console.print(report.table(trained, width=self.console.width))
            if any(cell.config.federation.rounds > 1 for cell in self.scenario.cells()):
                worst = report.table(trained, report.primary(trained).worst_of_last.name, width=self.console.width)
                self.console.print(worst)
            for several in report.tables(records, width=self.console.width):
                self.console.print(several)
            for remark in report.remarks(records):
                self.console.print(remark, markup=False, soft_wrap=True)
        for record in records:
            if record["status"] == "failed":
                log = self.root / record["id"] / "error.txt"
                self.console.print(f"failed: {_where(record)}: {record['error']} (see {log})", markup=False)
        for record in done:
            rounds = record["metrics"]["rounds_with_byzantine_majority"]
            if rounds:
                self.console.print(
                    f"note: {_where(record)}: at least half of the sampled clients were Byzantine in {rounds} rounds, "
                    "more than any rule withstands",
                    markup=False,
                )
        if not interrupted:
            checked = report.check(self.scenario.expectations, records)
            unmet = [
                text if value is None else f"{text}, measured {value:.4g}" for text, value, met in checked if not met
            ]
            for line in unmet:
                self.console.print(f"NOT MET: {line}", style="red", markup=False)
            if checked:
                self.console.print(f"expectations: {len(checked) - len(unmet)} of {len(checked)} met")
        pictures = ", ".join(sorted(path.name for path in self.root.glob("*.png")))
        self.console.print(f"results: {self.root}/ results.json, results.csv, {pictures}", markup=False, soft_wrap=True)
        self._name_reconstructions(done)
        if interrupted:
            self.console.print(
                f"interrupted: {len(done)} of {len(records)} cells are finished and kept; "
                "run the same command again to continue",
                markup=False,
            )
        return RunResult(self.root, records, failures, unmet, interrupted)

    def _name_reconstructions(self, done: Sequence[dict[str, Any]]) -> None:
        """Say where the pictures of reconstructed images are."""
        found = [
            (record, path)
            for record in done
            for path in sorted((self.root / record["id"]).glob("leakage/round-*/reconstruction.png"))
        ]
        for record, path in found[:_MOST_PICTURES]:
            self.console.print(f"reconstruction: {_where(record)}: {path}", markup=False, soft_wrap=True)
        if len(found) > _MOST_PICTURES:
            rest = len(found) - _MOST_PICTURES
            self.console.print(f"and {rest} more in {self.root}/*/leakage/", markup=False, soft_wrap=True)


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


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    lock = FileLock(root / ".lock", timeout=0)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        message = f"{root}: another fedsec process is running this scenario here; wait for it, or use --out"
        raise BusyError(message) from error
    except OSError as error:
        raise InputError(f"{root}: cannot be used as a run folder ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def _clear(root: Path) -> None:
    """Remove what fedsec wrote into a run folder, and nothing else that may lie there."""
    for path in root.iterdir():
        if path.is_dir() and (path.name == "shared" or (path / "config.yaml").exists()):
            shutil.rmtree(path)
        elif any(
            path.match(ours)
            for ours in ("results.json", "results.csv", "accuracy*.png", "partition*.png", "tradeoff.png")
        ):
            path.unlink()


def _finished(folder: Path) -> dict[str, Any] | None:
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = read_json(path)
    except (ValueError, OSError):
        return None
    whole = isinstance(record, dict) and record.get("status") == "done" and isinstance(record.get("metrics"), dict)
    return record if whole else None


def _where(record: dict[str, Any]) -> str:
    return describe(record["cell"])


def _empty(cell: Cell, status: str, error: str | None) -> dict[str, Any]:
    return {"id": cell.id, "cell": cell.axes, "status": status, "metrics": {}, "error": error, "seconds": 0.0}
