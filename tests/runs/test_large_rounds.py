"""Where a cell's updates lie is a matter of the run: numbers and ids stay, and it is said."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsec.errors import InputError
from fedsec.runs import RunResult, run
from fedsec.runs.executor import InProcess

SCENARIO: dict[str, Any] = {
    "name": "rows",
    "seed": 0,
    "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
    "partition": {"name": "iid", "clients": 12},
    "model": {"name": "mlp", "hidden": [4]},
    "federation": {"algorithm": "fedavg", "rounds": 2, "local": {"epochs": 1, "batch_size": 5, "lr": 0.1}},
    "defense": "median",
}


def ran(out: Path, **settings: Any) -> tuple[RunResult, str]:
    written = io.StringIO()
    result = run(SCENARIO, out=out, executor=InProcess(), console=Console(file=written, width=300), **settings)
    return result, written.getvalue()


def test_updates_on_disk_change_no_number_and_leave_no_file(tmp_path: Path) -> None:
    (one, said), (other, other_said) = ran(tmp_path / "a"), ran(tmp_path / "b", memory_gib=1e-6)
    (record,), (other_record,) = one.records, other.records
    assert record["id"] == other_record["id"]
    assert record["metrics"]["accuracy"] == other_record["metrics"]["accuracy"]
    assert record["metrics"]["loss"] == other_record["metrics"]["loss"]
    assert "rows" not in record
    assert "updates lie" not in said
    assert other_record["rows"].startswith("updates lie on disk: the rows of 12 clients take")
    assert other_record["rows"].endswith("is more than memory_gib (1e-06 GiB)")
    assert "updates lie on disk: the rows of 12 clients" in other_said
    names = [{path.name for path in (tmp_path / out / "rows").rglob("*")} - {"out.png"} for out in "ab"]
    assert names[0] == names[1]


@pytest.mark.parametrize("gib", [0.0, -1.0, float("inf"), float("nan")])
def test_memory_is_a_positive_number_of_gib(gib: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="memory_gib must be a positive number of GiB"):
        ran(tmp_path, memory_gib=gib)
