"""From the runner to its logs: every round once and in order, and no log that fails ends a run."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsec.errors import InputError
from fedsec.metrics.metric import Metric
from fedsec.report.evidence.round_lines import round_lines
from fedsec.report.exports.tidy import typed
from fedsec.report.summary import describe, display, row_of
from fedsec.runs.logs.run_log import LoggedCell, LoggedRun, LogState, Outcome, RunLog
from fedsec.scenario import Cell

__all__ = ["LogFeed"]

_BY_ROUND = ("evaluation", "probe")
"""Who measures what a round is logged with."""


class LogFeed:
    """Feeds the logs of one run.

    Where a log lacks rounds that were finished earlier, as after an interruption or where an earlier run was not
    logged, they are told from the cell's `rounds.jsonl` first.

    Args:
        logs: name -> log.
        say: is told, once, that a log has failed.
    """

    def __init__(self, logs: Mapping[str, RunLog], say: Callable[[str], None]) -> None:
        self._logs = dict(logs)
        self._say = say
        self._root = Path()
        self._states: dict[tuple[str, str], LogState] = {}
        self._cells: dict[str, LoggedCell] = {}

    def open(self, run: LoggedRun) -> None:
        """The run begins.

        Raises:
            InputError: a log cannot be opened.
        """
        self._root = run.folder
        for name, log in self._logs.items():
            try:
                log.open(run)
            except Exception as error:
                raise InputError(f"log {name}: cannot be opened ({_short(error)})") from error

    def begin(self, cell: Cell, made_with: Mapping[str, str]) -> None:
        """A cell begins, or goes on."""
        if self._logs:
            self._cells[cell.id] = _logged(cell, made_with)
            self._each(lambda name, log: self._state(name, log, self._cells[cell.id]))

    def round_done(self, cell: Cell, number: int, metrics: Mapping[str, float | None]) -> None:
        """A cell that has begun has finished a round."""
        values = _finite(metrics)
        if not self._logs or not values:
            return
        logged = self._cells[cell.id]

        def tell(name: str, log: RunLog) -> None:
            before = self._state(name, log, logged).last_round
            if number > before + 1:
                self._tell_earlier(name, log, logged, values, before=number)
            if number > before:
                log.log_round(logged, number, values)
                self._states[name, logged.id] = LogState(number)

        self._each(tell)

    def done(self, cell: Cell, record: Mapping[str, Any], made_with: Mapping[str, str]) -> None:
        """A cell has ended in this run, or had ended in an earlier one."""
        if not self._logs:
            return
        logged = self._cells.pop(cell.id, None) or _logged(cell, made_with)

        def tell(name: str, log: RunLog) -> None:
            state = self._state(name, log, logged)
            if record["status"] == "done":
                self._tell_earlier(name, log, logged, _by_round(record))
            if not state.ended:
                log.end(logged, record)
            self._states.pop((name, logged.id), None)

        self._each(tell)

    def close(self, outcome: Outcome, files: Sequence[Path]) -> None:
        """The run has ended."""
        self._each(lambda name, log: log.close(outcome, files))

    def _state(self, name: str, log: RunLog, cell: LoggedCell) -> LogState:
        """What the log has of the cell; asked once."""
        if (name, cell.id) not in self._states:
            self._states[name, cell.id] = log.begin(cell)
        return self._states[name, cell.id]

    def _tell_earlier(
        self, name: str, log: RunLog, cell: LoggedCell, names: Iterable[str], before: float = math.inf
    ) -> None:
        """Tell what the log lacks of the rounds before one."""
        state = self._states[name, cell.id]
        if state.ended:
            return
        wanted = list(names)
        for line in round_lines(self._root / cell.id):
            number = line["round"]
            values = _finite({name: line.get(name) for name in wanted})
            if state.last_round < number < before and values:
                log.log_round(cell, number, values)
                self._states[name, cell.id] = LogState(number)

    def _each(self, tell: Callable[[str, RunLog], object]) -> None:
        for name, log in list(self._logs.items()):
            try:
                tell(name, log)
            except Exception as error:
                del self._logs[name]
                self._say(f"log {name}: stops here, and the run goes on: {_short(error)}")


def _logged(cell: Cell, made_with: Mapping[str, str]) -> LoggedCell:
    axes = {axis: typed([display(value)])[0] for axis, value in cell.axes.items()}
    identity = hashlib.sha256(json.dumps(dict(made_with), sort_keys=True).encode()).hexdigest()[:12]
    return LoggedCell(cell.id, describe(cell.axes), axes, cell.resolved, identity)


def _by_round(record: Mapping[str, Any]) -> list[str]:
    """The metrics that a round is logged with."""
    rows: dict[str, Metric] = {name: row_of(name, [record]) for name in record["metrics"]}
    return [name for name, row in rows.items() if row.source in _BY_ROUND]


def _finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
