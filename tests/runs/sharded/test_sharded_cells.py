"""Cells whose rounds' rows lie on several workers: their files are those of any run."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.runs import InProcess
from fedsec.runs.events import Done, Event, Started
from fedsec.runs.sharded.executor import ShardedCells
from fedsec.runs.tasks import CellTask, TaskSettings


class Spread(InProcess):
    """Runs cells in this process, on two workers of this process."""

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        return super().run([replace(task, settings=replace(task.settings, actors=2)) for task in tasks])


def test_files_are_those_of_a_run_in_one_matrix(tmp_path: Path, tiny: Any, whole: Path) -> None:
    result = tiny.run(tmp_path, executor=Spread())
    assert result.failures == 0
    assert tiny.numbers(result.root) == tiny.numbers(whole)
    records = [json.loads((result.root / cell / "result.json").read_text()) for cell in tiny.numbers(result.root)]
    assert all(record["engine"].endswith("on 2 workers") for record in records)


def test_a_single_round_is_that_of_shared_training(tmp_path: Path, tiny: Any, one_cell: Path) -> None:
    result = tiny.run(tmp_path, *tiny.one_round, executor=Spread())
    assert tiny.numbers(result.root) == tiny.numbers(one_cell)


EPOCH = "federation.local={epochs: 1, batch_size: 10, lr: 0.1}"
"""Local training that can be inverted: the scenario's own has batches over the seams of epochs."""


@pytest.mark.parametrize(
    ("overrides", "record", "problem"),
    [
        (("matrix.defense=[{name: dnc, num_byzantine: 1}]",), None, "DnC looks at whole rows"),
        (("matrix.attack=[{name: mimic, num_byzantine: 1}]",), None, "Mimic looks at whole updates"),
        (("inversion={name: analytic}", EPOCH), None, "an inversion looks at whole rows"),
        (("federation.secure_aggregation={clients: 2}",), None, "secure aggregation sums whole rows"),
        ((), "recordings", "a recording holds whole rows"),
    ],
)
def test_what_looks_at_whole_rows_fails_with_the_reason(
    tmp_path: Path, tiny: Any, overrides: Sequence[str], record: str | None, problem: str
) -> None:
    with pytest.raises(InputError, match=f"actors_per_cell: {problem}"):
        tiny.run(tmp_path, *tiny.one, *overrides, executor=Spread(), record=record and tmp_path / record)


def test_training_that_cells_share_is_left_to_their_actors() -> None:
    executor, task = ShardedCells(2, "local"), CellTask("train", {}, TaskSettings(Path(), "cpu", 1), client=0)
    assert list(executor.run([task])) == [(0, Started()), (0, Done(None))]


@pytest.mark.parametrize("actors", [0, 1, 10_000])
def test_numbers_of_actors_that_are_none(actors: int) -> None:
    with pytest.raises(InputError, match="actors_per_cell must be at least 2 and at most 4096"):
        ShardedCells(actors)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"actors_per_cell": 2}, "actors_per_cell are for Ray; expected ray=auto as well"),
        ({"ray": "auto", "actors_per_cell": 1}, "actors_per_cell must be at least 2"),
        ({"ray": "auto", "actors_per_cell": 2, "cpus_per_cell": 0}, "cpus_per_cell must be at least 1"),
        *(
            ({"ray": "auto", "actors_per_cell": 2, name: 1}, f"{name}: is for cells of which each is on one node")
            for name in ("gpus_per_cell", "memory_per_cell", "memory_gib", "workers", "record")
        ),
        ({"ray": "head", "actors_per_cell": 2}, "expected auto, local, or host:port"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, tiny: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        tiny.run(tmp_path, executor=None, **options)
