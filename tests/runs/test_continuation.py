"""More rounds for a finished cell go on where it ended."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console


def test_more_rounds_go_on_and_end_with_the_same_bits(long_cell: Path, tmp_path: Path, tiny: Any) -> None:
    short = tiny.run(tmp_path, *tiny.one, "federation.rounds=2")
    (log,) = short.root.glob("*/rounds.jsonl")
    first = log.read_text().splitlines()
    result = tiny.run(tmp_path, *tiny.one)
    lines = (result.root / result.records[0]["id"] / "rounds.jsonl").read_text().splitlines()
    assert lines[:2] == first, "not trained again: even the seconds are the same"
    assert tiny.numbers(result.root) == tiny.numbers(long_cell)


@pytest.mark.parametrize(
    "short",
    [
        ("federation.rounds=1",),
        ("federation.rounds=2", "federation.evaluate_every=3"),
        ("federation.rounds=2", "seed=1"),
        ("federation.rounds=2", "federation.local.lr=0.2"),
    ],
)
def test_what_would_not_be_the_same_begins_with_the_first_round(
    tmp_path: Path, tiny: Any, short: tuple[str, ...]
) -> None:
    shared = tuple(setting for setting in short if "evaluate" in setting)
    tiny.run(tmp_path, *tiny.one, *short)
    console = Console(record=True, file=io.StringIO(), width=200)
    tiny.run(tmp_path, *tiny.one, *shared, console=console)
    assert "continues" not in console.export_text()


def test_it_is_said_that_a_cell_goes_on(tmp_path: Path, tiny: Any) -> None:
    tiny.run(tmp_path, *tiny.one, "federation.rounds=2")
    console = Console(record=True, file=io.StringIO(), width=200)
    tiny.run(tmp_path, *tiny.one, console=console)
    assert "continues after round 2" in console.export_text()
