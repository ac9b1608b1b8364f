"""Tidy tables of a run: one row a cell, or one a cell and round; the matrix's axes are columns of their own type."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsec.errors import InputError
from fedsec.plugins.registry import unknown
from fedsec.report.evidence.round_lines import round_lines
from fedsec.report.summary import Record, display

__all__ = ["TidyTable", "cell_table", "round_table"]

BY_CLIENT = ("clients", "byzantine_in_round", "rejected", "influence", "dropped", "spent", "suspected")
"""What a round has a list of clients of; a file of text has no room for them."""
_KINDS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile("true|false"), lambda text: text == "true"),
    (re.compile("-?(0|[1-9][0-9]{0,17})"), int),
    (re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?(e[-+]?[0-9]+)?"), float),
)


@dataclass(frozen=True)
class TidyTable:
    """Columns of equal length.

    Args:
        keys: columns that say what a row is about: the cell's id, its place in the matrix, its round.
        values: columns of what was measured; None where it was not.
    """

    keys: Mapping[str, Sequence[Any]]
    values: Mapping[str, Sequence[Any]]

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """All columns by name, from left to right."""
        return {**self.keys, **self.values}

    def __len__(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.keys.values()), ()))

    def only(self, metrics: Sequence[str]) -> "TidyTable":
        """The same rows with these metrics alone, in this order; all where none is named.

        Raises:
            InputError: there is no such metric; the nearest name that there is is said.
        """
        if not metrics:
            return self
        for name in metrics:
            if name not in self.values:
                raise InputError(unknown("metric", name, self.values))
        return TidyTable(self.keys, {name: self.values[name] for name in metrics})

    def spread(self) -> "TidyTable":
        """Lists as numbered columns, as in `per_class_accuracy.0`."""
        columns: dict[str, Sequence[Any]] = {}
        for name, column in self.values.items():
            longest = max((len(value) for value in column if isinstance(value, list)), default=0)
            if not longest:
                columns[name] = column
            for place in range(longest):
                columns[f"{name}.{place}"] = [
                    value[place] if isinstance(value, list) and place < len(value) else None for value in column
                ]
        return TidyTable(self.keys, columns)

    def long(self) -> "TidyTable":
        """A row for each number, with its `metric` and `value`; what was not measured has none."""
        spread = self.spread().values
        places = [
            (row, name)
            for row in range(len(self))
            for name, column in spread.items()
            if isinstance(column[row], int | float)
        ]
        keys = {name: [column[row] for row, _ in places] for name, column in self.keys.items()}
        keys["metric"] = [name for _, name in places]
        return TidyTable(keys, {"value": [float(spread[name][row]) for row, name in places]})


def cell_table(records: Sequence[Record]) -> TidyTable:
    """One row a cell: its id, its place in the matrix, its status and all that was measured.

    Args:
        records: the cells' records, in the matrix's order.
    """
    metrics = dict.fromkeys(name for record in records for name in record.get("metrics") or {})
    values = {name: [(record.get("metrics") or {}).get(name) for record in records] for name in metrics}
    keys = {"id": _ids(records), **_axes(records), "status": [record["status"] for record in records]}
    if any("seconds" in record for record in records):
        values["seconds"] = [record.get("seconds") for record in records]
    return TidyTable(keys, {name: uniform(column) for name, column in values.items()})


def round_table(root: Path, records: Sequence[Record]) -> TidyTable:
    """One row a cell and finished round: what its line of `rounds.jsonl` holds, nested names joined by dots.

    Args:
        root: the run's folder.
        records: the cells' records, in the matrix's order.
    """
    lines = [(place, line) for place, record in enumerate(records) for line in round_lines(root / str(record["id"]))]
    keys = {"id": _ids(records), **_axes(records)}
    of_cells = {name: [column[place] for place, _ in lines] for name, column in keys.items()}
    flat = [_flattened(line) for _, line in lines]
    names = dict.fromkeys(name for line in flat for name in line)
    values = {name: uniform([line.get(name) for line in flat]) for name in names}
    numbers = values.pop("round", [])
    return TidyTable({**of_cells, "round": numbers}, values)


def _ids(records: Sequence[Record]) -> list[str]:
    return [str(record["id"]) for record in records]


def _axes(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The matrix's axes: numbers and truth values where all values of an axis are."""
    names = dict.fromkeys(axis for record in records for axis in record["cell"])
    return {
        name: typed([display(record["cell"][name]) if name in record["cell"] else None for record in records])
        for name in names
    }


def typed(texts: Sequence[str | None]) -> list[Any]:
    """A column of texts as what all of them are written as: truth values, whole numbers, numbers, or texts."""
    present = [text for text in texts if text is not None]
    for pattern, read in _KINDS if present else ():
        if all(pattern.fullmatch(text) for text in present):
            return [None if text is None else read(text) for text in texts]
    return list(texts)


def uniform(column: Sequence[Any]) -> list[Any]:
    """A column of one type: whole numbers among others become such, and all becomes text where texts are among it."""
    kinds = {type(value) for value in column if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in column]
    if len(kinds) > 1:
        return [None if value is None else display(value) for value in column]
    if kinds == {list}:
        fractions = any(isinstance(item, float) for value in column for item in value or ())
        return [_all_float(value) if fractions and value is not None else value for value in column]
    return list(column)


def _all_float(values: Iterable[Any]) -> list[Any]:
    return [float(value) if isinstance(value, int) else value for value in values]


def _flattened(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flattened(item, f"{name}.{key}" if name else str(key))
    return flat
