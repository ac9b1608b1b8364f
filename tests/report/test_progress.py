"""What a run shows while it works."""

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fedsec.report.progress import RunProgress, duration
from fedsec.report.progress_lines import TerminalLines
from fedsec.report.summary import describe


class Time:
    """A clock that stands still until told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_cell(number: int, rounds: int = 10, defense: str = "mean") -> Any:
    config = SimpleNamespace(federation=SimpleNamespace(rounds=rounds))
    return SimpleNamespace(
        id=str(number), axes={"attack": "none", "defense": defense, "seed": str(number)}, config=config
    )


def finished(accuracy: float = 0.5) -> dict[str, Any]:
    return {"status": "done", "metrics": {"accuracy": accuracy}, "error": None, "seconds": 12.3}


def failed(error: str) -> dict[str, Any]:
    return {"status": "failed", "metrics": {}, "error": error, "seconds": 0.0}


def plain_console() -> Console:
    return Console(width=40, force_terminal=False, color_system=None, record=True, quiet=False)


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False)


def shown(progress: RunProgress, console: Console) -> list[str]:
    with console.capture() as capture:
        assert isinstance(progress.lines, TerminalLines)
        console.print(progress.lines.progress.get_renderable())
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def test_plain_lines_tell_starts_ends_and_failures() -> None:
    console, time = plain_console(), Time()
    one, two = make_cell(1), make_cell(2, defense="trimmed_mean(trim_per_side=0.4)")
    with console.capture() as capture, RunProgress(console, [one, two], clock=time) as progress:
        progress.start(one)
        time.now += 4
        progress.update(one, 1, 10, {"accuracy": 0.25})
        time.now += 5
        progress.update(one, 2, 10, {"accuracy": 0.25})
        progress.done(one, finished(0.95))
        progress.start(two)
        progress.done(two, failed("[red] is not a color"))
    assert capture.get().splitlines() == [
        "none, mean, seed=1: started",
        "none, mean, seed=1: accuracy 95.0% in 12 s (1 of 2 cells, about 50 s left)",
        "none, trimmed_mean(trim_per_side=0.4), seed=2: started",
        "none, trimmed_mean(trim_per_side=0.4), seed=2: failed: [red] is not a color (2 of 2 cells)",
    ]


def test_plain_lines_do_not_flood() -> None:
    console, time = plain_console(), Time()
    cell = make_cell(1, rounds=1000)
    with console.capture() as capture, RunProgress(console, [cell], clock=time) as progress:
        progress.start(cell)
        for number in range(1, 1001):
            time.now += 0.125
            progress.update(cell, number, 1000, {"accuracy": None if number % 2 else 0.5})
        progress.done(cell, finished())
    lines = capture.get().splitlines()
    assert len(lines) == 2 + 12
    assert lines[1] == "none, mean, seed=1: round 80/1000, accuracy 50.0%, about 2 min left"


def test_shared_training_is_told_rarely() -> None:
    console, time = plain_console(), Time()
    with console.capture() as capture, RunProgress(console, [make_cell(1)], clock=time) as progress:
        for done in range(31):
            progress.shared(done, 30)
            time.now += 1
    lines = capture.get().splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{n} of 30 clients" for n in (0, 10, 20, 30)]


def test_cells_of_an_earlier_run_are_counted_silently_and_do_not_speed_up_the_estimate() -> None:
    console, time = plain_console(), Time()
    cells = [make_cell(number) for number in range(4)]
    with console.capture() as capture, RunProgress(console, cells, clock=time) as progress:
        progress.done(cells[0], finished())
        progress.done(cells[1], finished())
        progress.start(cells[2])
        time.now += 30
        progress.update(cells[2], 6, 10, {"accuracy": 0.5})  # continued from round 5, after starting a process
        assert progress._seconds_left() is None
        time.now += 10
        progress.update(cells[2], 7, 10, {"accuracy": 0.5})
        assert progress._seconds_left() == pytest.approx(10 * 13)
    assert capture.get().splitlines() == [
        "none, mean, seed=2: started",
        "none, mean, seed=2: round 6/10, accuracy 50.0%",
        "none, mean, seed=2: round 7/10, accuracy 50.0%, about 2 min left",
    ]


def test_the_estimate_starts_anew_after_shared_training() -> None:
    time = Time()
    cell = make_cell(1, rounds=10)
    progress = RunProgress(Console(quiet=True), [cell], clock=time)
    assert progress._seconds_left() is None
    progress.shared(0, 4)
    time.now += 30
    progress.shared(1, 4)
    assert progress._seconds_left() == pytest.approx(90)
    progress.shared(4, 4)
    progress.start(cell)
    for number in range(1, 4):
        time.now += 2
        progress.update(cell, number, 10, {"accuracy": 0.1})
    assert progress._seconds_left() == pytest.approx(14)


def test_the_estimate_counts_cells_that_run_side_by_side() -> None:
    time = Time()
    cells = [make_cell(number, rounds=1) for number in range(6)]
    progress = RunProgress(Console(quiet=True), cells, clock=time)
    progress.start(cells[0])
    progress.start(cells[1])
    time.now += 8
    for cell in cells[:2]:
        progress.update(cell, 1, 1, {"accuracy": 0.5})
        progress.done(cell, finished())
    assert progress._seconds_left() == pytest.approx(8 * 4 / 2)
    for cell in cells[2:5]:
        progress.done(cell, finished())
    assert progress._seconds_left() == pytest.approx(8)
    progress.done(cells[5], finished())
    assert not progress._seconds_left()


def test_the_display_shows_the_whole_and_each_running_cell() -> None:
    console, time = terminal(), Time()
    cells = [make_cell(number) for number in range(3)]
    progress = RunProgress(console, cells, clock=time)
    progress.done(cells[0], finished())
    progress.start(cells[1])
    progress.start(cells[2])
    progress.begin(cells[2], 0)
    for number in range(1, 5):
        time.now += 4
        progress.update(cells[2], number, 10, {"accuracy": 0.875})
    lines = shown(progress, console)
    assert lines[0].endswith(" 1 of 3 cells, 0:00:16, about 32 s left, round 14 of 30")
    assert lines[1].endswith(" loading data, none, mean, seed=1")
    assert lines[2].endswith(" round 4/10, accuracy 87.5%, none, mean, seed=2")
    progress.shared(1, 20)
    assert shown(progress, console)[1].endswith(" shared training, client 1 of 20")


def test_the_display_says_what_is_done_before_any_cell_is_at_work() -> None:
    console = terminal()
    progress = RunProgress(console, [make_cell(1)])
    progress.announce("starting 2 workers")
    assert shown(progress, console)[0].endswith(" starting 2 workers, 0:00:00, 0 of 1 cell")
    progress.start(make_cell(1))
    assert "starting" not in shown(progress, console)[0]


def test_after_a_resume_the_bar_begins_where_the_cell_does_and_the_rest_is_estimated_from_here() -> None:
    console, time = terminal(), Time()
    cell = make_cell(1, rounds=100)
    progress = RunProgress(console, [cell], clock=time)
    progress.start(cell)
    progress.begin(cell, 60)
    whole, one = shown(progress, console)
    assert whole.endswith(" 0 of 1 cell, 0:00:00, round 60 of 100")
    assert one.endswith(" round 60/100, none, mean, seed=1")
    assert whole[:24].count("━") == 24 * 60 // 100
    for number in (61, 62, 63):
        time.now += 2
        progress.update(cell, number, 100, {"accuracy": 0.5})
    assert progress._seconds_left() == pytest.approx(2 * 37)


@pytest.mark.parametrize("width", range(20, 100, 5))
def test_no_word_is_broken_at_the_edge(width: int) -> None:
    console, time = terminal(width=width), Time()
    cell = make_cell(1, defense="trimmed_mean(trim_per_side=0.4)")
    progress = RunProgress(console, [cell], clock=time)
    progress.start(cell)
    progress.begin(cell, 0)
    for number in range(1, 4):
        time.now += 4
        progress.update(cell, number, 10, {"accuracy": 0.875})
    whole = "0 of 1 cell, 0:00:12, about 28 s left, round 3 of 10"
    one = "round 3/10, accuracy 87.5%, none, trimmed_mean(trim_per_side=0.4), seed=1"
    lines = shown(progress, console)
    for line, everything in zip(lines, (whole, one), strict=True):
        assert len(line) <= width
        words = {word.strip(",") for word in line.lstrip("━╸╺ ").split()}
        assert words <= {word.strip(",") for word in everything.split()}
    assert ("about 28 s left" in lines[0]) == (width >= 50)


def test_the_display_fits_a_low_terminal() -> None:
    console = terminal(height=8)
    cells = [make_cell(number) for number in range(30)]
    progress = RunProgress(console, cells)
    for cell in cells:
        progress.start(cell)
    lines = shown(progress, console)
    assert len(lines) <= 8
    assert lines[0].endswith("0 of 30 cells, 0:00:00, 26 more at work")


def test_a_terminal_gets_no_plain_lines_but_hears_of_failures() -> None:
    console = terminal()
    cell = make_cell(1)
    with console.capture() as capture, RunProgress(console, [cell]) as progress:
        progress.start(cell)
        progress.done(cell, failed("out of [memory]"))
    text = capture.get()
    assert "started" not in text
    assert "none, mean, seed=1: failed: out of [memory]" in text
    assert "\x1b[?25h" in text  # the cursor is visible again


def test_the_cursor_comes_back_after_an_interrupt() -> None:
    console = terminal()
    with console.capture() as capture:  # noqa: SIM117
        with pytest.raises(KeyboardInterrupt), RunProgress(console, [make_cell(1)]):
            raise KeyboardInterrupt
    assert capture.get().rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in capture.get()


def test_a_quiet_console_stays_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    cell = make_cell(1)
    with RunProgress(Console(quiet=True, force_terminal=True), [cell]) as progress:
        progress.start(cell)
        progress.update(cell, 1, 10, {"accuracy": 0.5})
        progress.done(cell, failed("x"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1 h 40 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_cells_are_described_by_their_axes() -> None:
    axes = {"attack": "none", "defense": "mean", "partition.alpha": 0.1, "dataset.download": True}
    assert describe(axes) == "none, mean, partition.alpha=0.1, dataset.download=true"
