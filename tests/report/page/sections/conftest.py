"""A run's folder made by hand: cells with records, rounds and partitions."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedsec.report.page import RunSummary, RunView

Lines = Sequence[Mapping[str, Any]]
AddCell = Callable[..., dict[str, Any]]
Look = Callable[[], RunView]


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def cell(tmp_path: Path, records: list[dict[str, Any]]) -> AddCell:
    """Adds a cell to the run: its place in the matrix, its metrics, its rounds."""

    def add(
        attack: str,
        defense: str,
        seed: int = 0,
        *,
        rounds: Lines = (),
        options: Mapping[str, Any] | None = None,
        until: int | None = None,
        config: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
        **metrics: Any,
    ) -> dict[str, Any]:
        number = None if attack == "none" else 1
        section = {
            "name": attack,
            "options": dict(options or {}),
            "label": None,
            "num_byzantine": number,
            "until": until,
        }
        content = {
            "id": f"{len(records):012x}",
            "cell": {"attack": attack, "defense": defense, "seed": seed},
            "status": "done",
            "metrics": metrics,
            "error": None,
            "seconds": 1.0,
            "config": {"attack": section, "partition": {"clients": 4}, **(config or {})},
            **(record or {}),
        }
        folder = tmp_path / content["id"]
        folder.mkdir()
        (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounds))
        counts = [[8, 2], [5, 5], [0, 4], [1, 1]]
        (folder / "partition.json").write_text(json.dumps({"counts": counts, "classes": ["cat", "<b>dog"]}))
        records.append(content)
        return content

    return add


@pytest.fixture
def view(tmp_path: Path, records: list[dict[str, Any]]) -> Look:
    return lambda: RunView(tmp_path, records, RunSummary("by hand"))
