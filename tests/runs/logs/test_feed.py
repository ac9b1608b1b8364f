"""Every round reaches a log once and in order, whatever was run before; no log that fails ends a run."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.runs import run
from fedsec.runs.events import Event, RoundDone
from fedsec.runs.executor import InProcess
from fedsec.runs.logs import LoggedCell, LoggedRun, LogState, logs_of
from fedsec.runs.tasks import CellTask

SCENARIO = {
    "name": "tiny",
    "dataset": {"name": "digits", "train_size": 60, "test_size": 60},
    "partition": {"name": "iid", "clients": 3},
    "model": "logistic",
    "federation": {"rounds": 3, "local": {"steps": 1}},
    "matrix": {"defense": ["mean", "median"]},
}


class Notebook:
    """A log in memory, which remembers over runs."""

    def __init__(self, fails_in_round: int | None = None) -> None:
        self.rounds: dict[str, list[tuple[int, float]]] = {}
        self.ended: dict[str, str] = {}
        self.closed: list[tuple[str, list[str]]] = []
        self.cells: dict[str, LoggedCell] = {}
        self.fails_in_round = fails_in_round

    def open(self, run: LoggedRun) -> None:
        self.run = run

    def begin(self, cell: LoggedCell) -> LogState:
        if (known := self.cells.get(cell.id)) is not None and known.identity != cell.identity:
            del self.rounds[cell.id]
        self.cells[cell.id] = cell
        rounds = self.rounds.setdefault(cell.id, [])
        return LogState(rounds[-1][0] if rounds else 0, cell.id in self.ended)

    def log_round(self, cell: LoggedCell, number: int, metrics: Mapping[str, float]) -> None:
        if number == self.fails_in_round:
            raise OSError("the disk is full")
        self.rounds[cell.id].append((number, metrics["accuracy"]))

    def end(self, cell: LoggedCell, record: Mapping[str, Any]) -> None:
        assert cell.id not in self.ended
        self.ended[cell.id] = record["status"]

    def close(self, outcome: str, files: Sequence[Path]) -> None:
        self.closed.append((outcome, [path.name for path in files]))


def logged(log: Any, out: Path, *overrides: str, **options: Any) -> Any:
    return run(SCENARIO, overrides=overrides, out=out, executor=InProcess(), device="cpu", log=log, **options)


def rounds_of(root: Path, cell_id: str) -> list[tuple[int, float]]:
    lines = map(json.loads, (root / cell_id / "rounds.jsonl").read_text().splitlines())
    return [(line["round"], line["accuracy"]) for line in lines]


def test_a_log_is_told_every_round_once_and_what_came_of_it(tmp_path: Path) -> None:
    log = Notebook()
    result = logged(log, tmp_path)
    ids = [record["id"] for record in result.records]
    assert list(log.rounds) == ids
    assert all(log.rounds[cell_id] == rounds_of(result.root, cell_id) for cell_id in ids)
    assert log.ended == dict.fromkeys(ids, "done")
    assert [cell.axes for cell in log.cells.values()] == [{"defense": "mean"}, {"defense": "median"}]
    ((outcome, files),) = log.closed
    assert outcome == "finished"
    assert {"report.html", "results.json"} <= set(files)
    before = json.dumps(log.rounds)
    logged(log, tmp_path)  # all is finished, and the log has it
    assert json.dumps(log.rounds) == before
    late = Notebook()
    logged(late, tmp_path)  # all is finished, and the log has nothing
    assert json.dumps(late.rounds) == before
    assert late.ended == log.ended


class Watched(InProcess):
    """Counts what a log has after each round that the runner was told of."""

    def __init__(self, log: Notebook) -> None:
        self.log, self.counts = log, list[int]()

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        for index, event in super().run(tasks):
            yield index, event
            if isinstance(event, RoundDone):
                self.counts.append(sum(map(len, self.log.rounds.values())))


def test_a_log_is_told_of_rounds_as_they_come(tmp_path: Path) -> None:
    log = Notebook()
    executor = Watched(log)
    run(SCENARIO, out=tmp_path, executor=executor, device="cpu", log=log)
    assert executor.counts == [1, 2, 3, 4, 5, 6]


def test_a_log_that_has_some_rounds_is_told_the_others(tmp_path: Path) -> None:
    log = Notebook()
    result = logged(log, tmp_path, "matrix.defense=[mean]")
    (cell_id,) = log.rounds
    whole = list(log.rounds[cell_id])
    for known in (1, 2):
        log.rounds[cell_id], log.ended = whole[:known], {}
        logged(log, tmp_path, "matrix.defense=[mean]")
        assert log.rounds[cell_id] == whole
    log.rounds[cell_id], log.ended = whole[:1], {}
    shutil.rmtree(result.root)  # the cell is run again, of the same code
    logged(log, tmp_path, "matrix.defense=[mean]")
    assert log.rounds[cell_id] == whole


def test_a_log_that_fails_is_said_once_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    broken, whole = Notebook(fails_in_round=2), Notebook()
    result = logged([broken, whole], tmp_path, console=Console(width=200))
    assert result.failures == 0
    said = capsys.readouterr().out
    assert said.count("log Notebook 1: stops here, and the run goes on: OSError: the disk is full") == 1
    assert [len(rounds) for rounds in whole.rounds.values()] == [3, 3]
    assert broken.closed == []


def test_a_log_that_cannot_be_opened_keeps_the_run_from_starting(tmp_path: Path) -> None:
    class Closed(Notebook):
        def open(self, run: LoggedRun) -> None:
            raise ConnectionError("nobody answers")

    with pytest.raises(InputError, match=r"log Closed 1: cannot be opened.*nobody answers"):
        logged(Closed(), tmp_path)
    assert not list(tmp_path.glob("tiny/*/rounds.jsonl"))


def test_failed_cells_are_told(tmp_path: Path) -> None:
    log = Notebook()
    scenario = {**SCENARIO, "federation": {"rounds": 2, "local": {"steps": 1, "lr": 1e30}}, "model": "logistic"}
    result = run(scenario, out=tmp_path, executor=InProcess(), device="cpu", log=log)
    assert log.ended == {record["id"]: record["status"] for record in result.records}


@pytest.mark.parametrize(
    ("asked", "message"),
    [("tensorbord", "did you mean 'tensorboard'"), (["tensorboard:a", "tensorboard:a"], "is named twice")],
)
def test_mistakes_are_told(asked: Any, message: str) -> None:
    pytest.importorskip("tensorboard")
    with pytest.raises(InputError, match=message):
        logs_of(asked, Path("x"))


def test_rounds_that_are_computed_again_are_not_told_again(tmp_path: Path) -> None:
    log = Notebook()
    logged(log, tmp_path, "matrix.defense=[mean]", "federation.rounds=2")
    before = json.dumps(log.rounds)
    logged(log, tmp_path, "matrix.defense=[mean]", "federation.rounds=2", fresh=True)
    assert json.dumps(log.rounds) == before
