"""What a run shows while it works: live lines on a terminal, plain lines elsewhere."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console

from fedsec.errors import count_of
from fedsec.metrics.metric import described
from fedsec.report.console import QUIET_SECONDS, say
from fedsec.report.progress_lines import Line, progress_lines
from fedsec.report.summary import Record, describe, primary, value_of

if TYPE_CHECKING:
    from fedsec.scenario import Cell


@dataclass
class _Running:
    """A cell at work; `begun` once it has its data, where it goes on from `round`."""

    name: str
    places: list[str]
    round: int
    rounds: int
    measured: str
    heard: float
    said: float
    rounds_here: int = 0
    begun: bool = False

    @property
    def readings(self) -> list[str]:
        if not self.begun:
            return ["loading data"]
        return [f"round {self.round}/{self.rounds}", *([self.measured] if self.measured else [])]


class RunProgress:
    """Shows how far a run has come; a context manager.

    On a terminal: one bar for the rounds of all cells with the time left, and one for each running cell with its round
    and its primary metric so far. In a notebook: the first of these. Elsewhere: a line when a cell starts and ends, and
    at most one every ten seconds in between.

    Args:
        console: where to show it; a quiet one shows nothing.
        cells: all cells of the run, finished ones included.
        clock: seconds since any fixed moment.
    """

    def __init__(
        self, console: Console, cells: Sequence["Cell"], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._cells = len(cells)
        self._rounds_done = {cell.id: 0 for cell in cells}
        self._rounds_total = sum(cell.config.federation.rounds for cell in cells)
        self._finished: set[str] = set()
        self._failed = 0
        self._running: dict[str, _Running] = {}
        self._shared: tuple[int, int] | None = None
        self._timed, self._busy = 0, 0.0  # rounds whose duration is known, and the sum of their durations
        self._lanes = 1  # the most cells that ran at once
        self._since = clock()
        self._begun = self._since
        self._lock = threading.RLock()
        self._announced = ""
        self.lines = progress_lines(console, clock)

    def __enter__(self) -> Self:
        if self.lines is not None:
            self._show()
            self.lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lines is not None:
            self.lines.stop()

    def announce(self, text: str) -> None:
        """What is being done before anything is heard of a cell, such as `starting 2 workers`."""
        with self._lock:
            self._announced = text
            self._show()

    def start(self, cell: "Cell") -> None:
        """A worker has taken up the cell."""
        with self._lock:
            self._running[cell.id] = self._at_work(cell, self._rounds_done[cell.id])
            name = self._running[cell.id].name
            self._lanes = max(self._lanes, len(self._running))
            self._show()
        self._say(f"{name}: started")

    def _at_work(self, cell: "Cell", round: int) -> _Running:
        places = [describe({axis: value}) for axis, value in cell.axes.items()]
        now = self._clock()
        return _Running(describe(cell.axes), places, round, cell.config.federation.rounds, "", now, now)

    def begin(self, cell: "Cell", round: int) -> None:
        """The cell has loaded its data and begins, or goes on after so many rounds of an earlier run."""
        with self._lock:
            self._rounds_done[cell.id] = round
            running = self._running.get(cell.id)
            if running is not None:
                running.round, running.begun, running.heard = round, True, self._clock()
            self._show()

    def update(self, cell: "Cell", round: int, rounds: int, metrics: Mapping[str, float | None]) -> None:
        """The cell has finished a round (counted from one); its primary metric comes first, None where not measured."""
        now = self._clock()
        with self._lock:
            running = self._running.setdefault(cell.id, self._at_work(cell, 0))
            running.round, running.rounds, running.begun = round, rounds, True
            running.measured = _reading(metrics) or running.measured
            self._rounds_done[cell.id] = round
            running.rounds_here += 1
            if running.rounds_here > 1 or rounds == 1:  # the first of several is slower: everything is new to it
                self._timed += 1
                self._busy += now - running.heard
            running.heard = now
            due = now - running.said >= QUIET_SECONDS and round < rounds
            if due:
                running.said = now
            self._show()
        if due:
            self._say(f"{running.name}: {', '.join(filter(None, [*running.readings, self._left()]))}")

    def done(self, cell: "Cell", record: Record) -> None:
        """The cell has finished or failed. Cells that an earlier run finished come here without a start."""
        with self._lock:
            running = self._running.pop(cell.id, None)
            self._finished.add(cell.id)
            self._rounds_done[cell.id] = cell.config.federation.rounds
            failed = record["status"] == "failed"
            self._failed += failed
            number = len(self._finished)
            self._show()
        if running is None:
            return
        if failed:
            text = f"{running.name}: failed: {record.get('error')}"
            if self.lines is not None:
                say(self._console, text, "red", essential=True)
        else:
            name = primary([record]).name
            measured = _reading({name: value_of(record, name)})
            text = f"{running.name}: {measured or 'done'} in {duration(record.get('seconds') or 0.0)}"
        places = [f"{number} of {count_of(self._cells, 'cell')}", self._left()]
        self._say(f"{text} ({', '.join(filter(None, places))})")

    def shared(self, done: int, total: int) -> None:
        """Local training that several cells share: how many clients of all have been trained."""
        now = self._clock()
        with self._lock:
            first = self._shared is None
            self._shared = (done, total)
            due = total > 0 and (first or done == total or now - self._since >= QUIET_SECONDS)
            if due:
                self._since = now
            if first or done == total:
                self._begun = now
            self._show()
        if due and total:
            self._say(f"local training shared by cells: {done} of {count_of(total, 'client')}")

    def _say(self, text: str) -> None:
        if self.lines is None:
            say(self._console, text)

    def _seconds_left(self) -> float | None:
        """At the pace so far; None while there is none to go by."""
        with self._lock:
            if self._shared and self._shared[0] < self._shared[1]:
                done, total = self._shared
                return (self._clock() - self._begun) * (total - done) / done if done else None
            rounds = self._rounds_total - sum(self._rounds_done.values())
            lanes = min(self._lanes, self._cells - len(self._finished))
            return self._busy / self._timed * rounds / lanes if self._timed and lanes else None

    def _left(self) -> str:
        seconds = self._seconds_left()
        return f"about {duration(seconds)} left" if seconds and seconds >= 1 else ""

    def _show(self) -> None:
        """Bring the live lines up to date; the lock is held."""
        if self.lines is None:
            return
        done, total = sum(self._rounds_done.values()), self._rounds_total
        finished = f"{len(self._finished)} of {count_of(self._cells, 'cell')}"
        failed = f"{self._failed} failed" if self._failed else ""
        trained, clients = self._shared or (0, 0)
        room = max(1, self._console.height - 4)
        more = f"{len(self._running) - room} more at work" if len(self._running) > room else ""
        # What was announced goes on until a cell is at work.
        announced = self._announced if not self._running and trained == clients and done < total else ""
        first = [announced, finished] if announced else [finished, self._left()]
        lines = [Line([*first, failed, more, f"round {done} of {total}"], done, total)]
        if trained < clients:
            lines.append(Line(["shared training", f"client {trained} of {clients}"], trained, clients, timed=False))
        for running in list(self._running.values())[:room]:
            # What a narrow terminal has no room for is the end of the name.
            parts = [*running.readings, *running.places]
            lines.append(Line(parts, running.round, running.rounds if running.begun else None, timed=False))
        self.lines.show(lines)


def _reading(metrics: Mapping[str, float | None]) -> str:
    """The first metric as people say it: `accuracy 71.5%`; nothing where it was not measured."""
    name, value = next(iter(metrics.items()), ("", None))
    if value is None or not math.isfinite(value):
        return ""
    row = described(name)
    return f"{row.name} {row.write(value)}{'%' if row.is_fraction else ''}"


def duration(seconds: float) -> str:
    """A span of time as people say it: `8 s`, `3 min`, `2 h 5 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
