"""A budget gets as much effort as it has room for; what it has no room for is named, never dropped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from fedsec.assessment.budget import Offer, clock, scheduled, seconds_of
from fedsec.assessment.effort import LEVELS
from fedsec.assessment.probes.probe import ProbeCell
from fedsec.assessment.timed_executor import TimedExecutor
from fedsec.errors import InputError
from fedsec.runs.events import Done, Event, Started
from fedsec.runs.tasks import CellTask, TaskSettings


def cells(name: str, number: int) -> list[ProbeCell]:
    return [ProbeCell((name,), {"name": name, "seed": seed}) for seed in range(number)]


def seconds(asked: Sequence[ProbeCell]) -> float:
    """Ten seconds a cell; equal cells count once."""
    return 10.0 * len({str(cell.sections) for cell in asked})


OFFERS = {
    effort: [
        Offer("cheap", 1.0, [*cells("shared", 1), *cells("cheap", 2 * effort.seeds)]),
        Offer("dear", 8.0, [*cells("shared", 1), *cells("dear", 30 * effort.seeds)]),
        Offer("good", 5.0, [*cells("shared", 1), *cells("good", 4 * effort.seeds)]),
    ]
    for effort in LEVELS
}


def test_the_most_effort_that_fits_is_taken_and_what_is_worth_most_a_minute_comes_first() -> None:
    whole = seconds([cell for offer in OFFERS[LEVELS[0]] for cell in offer.cells]) / 0.9
    schedule = scheduled(OFFERS, seconds, whole + 1, 0.0)
    assert schedule.effort == LEVELS[0]
    assert schedule.probes == ("good", "cheap", "dear")
    assert not schedule.left_out
    assert scheduled(OFFERS, seconds, whole - 12, 0.0).effort == LEVELS[2]
    assert scheduled(OFFERS, seconds, whole + 1, 9.0).effort == LEVELS[2], "the overhead counts"


def test_what_does_not_fit_even_at_the_least_effort_is_left_out_with_its_price() -> None:
    schedule = scheduled(OFFERS, seconds, 150.0, 0.0)
    assert schedule.effort == LEVELS[-1]
    assert schedule.probes == ("good", "cheap")
    assert schedule.left_out == {"dear": 300.0}
    assert schedule.seconds == 70.0  # the shared cell once


def test_a_budget_without_room_leaves_everything_out() -> None:
    schedule = scheduled(OFFERS, seconds, 20.0, 19.0)
    assert schedule.probes == ()
    assert set(schedule.left_out) == {"cheap", "dear", "good"}


@pytest.mark.parametrize(
    ("text", "expected"), [("10m", 600), ("90s", 90), ("1h30m", 5400), ("0.5h", 1800), (" 2m ", 120), (2.5, 2.5)]
)
def test_budgets_are_read(text: str | float, expected: float) -> None:
    assert seconds_of(text) == expected


@pytest.mark.parametrize("text", ["", "ten", "10x", "m", "-3m", "0s", "10m5", "1e9h", "3", 0, -5.0, float("nan")])
def test_what_is_no_time_is_refused(text: str | float) -> None:
    with pytest.raises(InputError, match="a time such as 10m, 90s or 1h30m"):
        seconds_of(text)


def test_times_are_told() -> None:
    assert [clock(number) for number in (3.6, 60, 200, 7500)] == ["4 s", "1 min", "3 min 20 s", "2 h 5 min"]


def test_levels_do_less_and_less_and_say_so() -> None:
    assert LEVELS[0].shortened(40) == []
    for effort in LEVELS[1:]:
        assert effort.shortened(40)
    assert LEVELS[-1].rounds_of(40) == 10
    assert LEVELS[-1].rounds_of(8) == 5
    assert LEVELS[-1].rounds_of(3) == 3


class Clockwork:
    """An executor of tasks that take ten seconds each, on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.closed = 0.0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        for index, _ in enumerate(tasks):
            yield index, Started()
            self.now += 10
            yield index, Done()


def stopped(until: float) -> tuple[TimedExecutor, Clockwork, list[int]]:
    """Five tasks under a deadline; those that ended."""
    executor, finished = Clockwork(), []
    deadline = TimedExecutor(executor, until, clock=lambda: executor.now)
    tasks = [CellTask("cell", {}, TaskSettings(Path(), "cpu", 1), {}, {})] * 5
    with deadline:
        try:
            finished = [index for index, event in deadline.run(tasks) if isinstance(event, Done)]
        except KeyboardInterrupt:
            finished = list(range(int(executor.now // 10)))
    return deadline, executor, finished


def test_a_deadline_stops_what_is_not_done_and_says_so() -> None:
    deadline, executor, finished = stopped(until=25.0)
    assert deadline.passed
    assert executor.closed
    assert finished == [0, 1, 2]


def test_a_deadline_that_is_met_at_the_last_task_stops_nothing() -> None:
    deadline, executor, finished = stopped(until=49.0)
    assert not deadline.passed
    assert executor.closed
    assert finished == [0, 1, 2, 3, 4]
