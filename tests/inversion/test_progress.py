"""What is shown while an attack works, on a terminal and elsewhere."""

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from fedsec.inversion.progress import MOST_FRAMES, InversionProgress
from fedsec.threat import Snapshot

ORIGINALS = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def snapshot(iteration: int, loss: float = 0.5, stage: str = "pixels") -> Snapshot:
    labels = torch.zeros(2, 3, dtype=torch.int64)
    return Snapshot(stage, iteration, 100, torch.tensor([loss, 3 * loss]), ORIGINALS.clone(), labels)


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(path: Path | None = None, **options: Any) -> tuple[InversionProgress, io.StringIO, Clock]:
    text, clock = io.StringIO(), Clock()
    terminal = options.pop("terminal", False)
    console = Console(file=text, force_terminal=terminal, width=100, _environ={"TERM": "xterm"})
    return InversionProgress(console, ORIGINALS, path, clock=clock, **options), text, clock


def test_lines_where_there_is_no_terminal() -> None:
    shown, text, clock = progress()
    with shown:
        for second in range(25):
            clock.now = second
            shown(snapshot(second))
        shown(snapshot(0, stage="polish"))
        shown(snapshot(1, float("inf"), stage="end"))
    assert text.getvalue().splitlines() == [
        "pixels: 0/100, matching loss 1 (mean of 2) (0 s)",
        "pixels: 10/100, matching loss 1 (mean of 2) (10 s)",
        "pixels: 20/100, matching loss 1 (mean of 2) (20 s)",
        "polish: 0/100, matching loss 1 (mean of 2) (24 s)",
        "end: 1/100 (24 s)",
    ]


def test_a_live_line_on_a_terminal() -> None:
    shown, text, clock = progress(terminal=True)
    with shown:
        shown(snapshot(40))
        clock.now = 12
        shown(snapshot(60))
        assert shown.lines is not None
        shown.lines.refresh()
    assert "pixels: 60/100, 0:00:12, about 24 s left, matching loss 1 (mean of 2)" in text.getvalue()
    assert text.getvalue().count("\n") < 4


def test_the_best_so_far_is_drawn_at_intervals(tmp_path: Path) -> None:
    path = tmp_path / "progress.png"
    shown, _, clock = progress(path)
    shown(snapshot(0))
    assert not path.exists()
    clock.now = 5
    shown(snapshot(1))
    with Image.open(path) as picture:
        assert picture.width > picture.height
    path.unlink()
    clock.now = 6
    shown(snapshot(2))
    assert not path.exists()
    clock.now = 10
    shown(snapshot(3))
    assert [found.name for found in tmp_path.iterdir()] == ["progress.png"]


def test_frames_are_thinned_out_evenly() -> None:
    shown, _, _ = progress(keep_frames=True)
    for iteration in range(1000):
        shown(snapshot(iteration))
    assert MOST_FRAMES / 2 <= len(shown.frames) <= MOST_FRAMES
    numbers = [int(frame.text.split(":")[1].split("/")[0]) for frame in shown.frames]
    steps = {after - before for before, after in pairwise(numbers)}
    assert numbers[0] == 0
    assert len(steps) == 1
    quiet, _, _ = progress()
    quiet(snapshot(0))
    assert quiet.frames == []
