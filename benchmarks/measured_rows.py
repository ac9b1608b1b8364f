"""Rows that a benchmark has measured so far, kept as a table of `docs/results`."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def read(table: Path) -> list[dict[str, Any]]:
    """What was measured so far; nothing before the first time."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write(table: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]], by: Sequence[str]) -> None:
    """Write a table anew.

    Args:
        table: its file.
        columns: in their order.
        rows: that it has.
        by: columns by which they are sorted, numbers as numbers.
    """
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: tuple(str(row[name]).zfill(4) for name in by)))
