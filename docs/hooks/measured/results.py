"""The rows in docs/results, and what a picture of some of them shows."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "results"
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Bar:
    """One line of a picture.

    Args:
        label: what it is of.
        values: of each seed, or one.
        others: what they are compared with, likewise; none where there is nothing.
        emphasized: whether it is the page's own method among others.
    """

    label: str
    values: tuple[float, ...]
    others: tuple[float, ...] = ()
    emphasized: bool = False


@dataclass(frozen=True)
class Measurement:
    """A picture's content.

    Args:
        title: what is shown.
        unit: of the axis.
        bars: its lines, in order.
        value: what a filled dot is.
        other: what a hollow dot is, where there are any.
        source: the file of rows, under docs/results.
        setting: of what run they are.
        limits: of the axis; None: as the values have it.
    """

    title: str
    unit: str
    bars: tuple[Bar, ...]
    value: str
    other: str
    source: str
    setting: str
    limits: tuple[float, float] | None = field(default=(0.0, 100.0))


@cache
def rows(name: str) -> Rows:
    """The rows of a file of results whose cells ended well."""
    with (RESULTS / name).open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("status", "done") == "done"]


def numbers(cells: Iterable[dict[str, str]], column: str, factor: float = 100.0) -> tuple[float, ...]:
    """The values of a column, of the rows that have one; in percent unless a factor says otherwise."""
    return tuple(factor * float(row[column]) for row in cells if row.get(column))


def where(name: str, **wanted: str) -> Rows:
    """The rows of a file whose columns have these values."""
    return [row for row in rows(name) if all(row[key] == value for key, value in wanted.items())]


def unique(values: Iterable[str]) -> list[str]:
    """Each value once, in order."""
    return list(dict.fromkeys(values))


def method_names(cell: str) -> list[str]:
    """The methods that a cell such as `[nnm, krum]` or `krum(num_byzantine=5)` consists of."""
    parts = cell.strip("[]").split(", ") if cell.startswith("[") else [cell]
    return [part.partition("(")[0] for part in parts]
