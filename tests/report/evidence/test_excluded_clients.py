"""Honest clients that rules left out, beside their classes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsec.report.evidence.excluded_clients import FILE, excluded_clients_table, write_excluded_clients


def write(root: Path, cell_id: str, exclusions: list[tuple[int, int, int]], counts: list[list[int]]) -> dict[str, Any]:
    """A cell's record and partition; exclusions are (client, honest rounds, rounds left out)."""
    folder = root / cell_id
    folder.mkdir(parents=True)
    (folder / "partition.json").write_text(json.dumps({"counts": counts, "classes": ["cat", "dog", "owl", "rat"]}))
    named = [{"client": client, "honest_rounds": rounds, "excluded": out} for client, rounds, out in exclusions]
    return {
        "id": cell_id,
        "cell": {"defense": cell_id, "seed": 0},
        "status": "done",
        "exclusions": named,
        "metrics": {},
    }


COUNTS = [[8, 2, 0, 0], [5, 5, 5, 5], [0, 0, 0, 10]]


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    krum = write(tmp_path, "krum", [(0, 4, 1), (1, 4, 0), (2, 2, 2)], COUNTS)
    return [krum, {"id": "median", "cell": {"defense": "median", "seed": 0}, "status": "done", "metrics": {}}]


def test_the_most_excluded_stand_first_beside_their_classes(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(excluded_clients_table(tmp_path, records, width=140))
    shown = console.export_text()
    first, second = (line for line in shown.splitlines() if ("%" in line and "krum" in line) or "25.0" in line)
    assert "100.0" in first
    assert "rat 100%" in first
    assert "25.0" in second
    assert "cat 80%, dog 20%" in second
    assert "others" not in shown
    # (0.8 + 1 + 1) / 3 of the three exclusions; (4 * 0.8 + 4 * 0.25 + 2 * 1) / 10 of the ten rounds.
    assert "93% are of one class where it was left out, 62% on average" in " ".join(shown.split())


def test_the_file_has_everybody(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    write_excluded_clients(tmp_path, records, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / FILE).read_text())))
    assert [(row["client"], row["share_excluded"], row["largest_class_share"]) for row in rows] == [
        ("0", "0.25", "0.8"),
        ("1", "0.0", "0.25"),
        ("2", "1.0", "1.0"),
    ]
    assert [row["examples.rat"] for row in rows] == ["0", "5", "10"]


def test_nobody_is_no_table_and_no_file(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    write_excluded_clients(tmp_path, records[1:], tmp_path)
    assert not (tmp_path / FILE).exists()
    assert excluded_clients_table(tmp_path, records[1:]) is None
    fair = write(tmp_path, "fair", [(0, 4, 0)], COUNTS)
    assert excluded_clients_table(tmp_path, [fair]) is None
    (tmp_path / "krum" / "partition.json").write_text("{")
    assert excluded_clients_table(tmp_path, records) is None
