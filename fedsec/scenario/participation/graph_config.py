"""How a scenario says who is whose neighbor in a federation without a server."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer

from fedsec.errors import InputError
from fedsec.plugins.wording import Problem
from fedsec.scenario.named_sections import Section

_MOST_BYTES = 16 << 20


class GraphConfig(Section):
    """The clients' graph and its mixing matrix."""

    shorthand = "name"

    name: Literal["ring", "grid", "complete", "erdos_renyi", "edges"] = Field(
        default="ring",
        description="ring; grid, a torus as square as possible; complete; erdos_renyi, drawn until it is connected; or "
        "edges, a list of them.",
    )
    p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="erdos_renyi: the probability of an edge."
    )
    edges: list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]] | None = Field(
        default=None,
        description="edges: pairs of clients, as a list of lists or a file .csv with one pair a line, or with the rows "
        "of an adjacency matrix.",
    )
    mixing: Literal["metropolis_hastings", "uniform", "given"] = Field(
        default="metropolis_hastings",
        description="metropolis_hastings: 1 / (1 + the larger degree) an edge; uniform: the same for a client and all "
        "its neighbors, where all have equally many; given: as weights says.",
    )
    weights: list[list[Annotated[float, Field(ge=0, le=1, strict=False)]]] | None = Field(
        default=None,
        description="given: the mixing matrix, as a list of rows or a file .csv; symmetric, its rows sum to one, and "
        "it is positive on the edges alone.",
    )

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Read files, and refuse options of other graphs."""
        problems: list[Problem] = []
        for key, read in (("edges", _edges), ("weights", _numbers)):
            if isinstance(path := data.get(key), str):
                try:
                    data[key] = read(path)
                except InputError as error:
                    data[key] = None
                    problems.append(((key,), str(error)))
        given = {key: data.get(key, field.default) for key, field in cls.model_fields.items()}
        bad = {path[0] for path, _ in problems}
        for key, owner, value in (
            ("p", "name", "erdos_renyi"),
            ("edges", "name", "edges"),
            ("weights", "mixing", "given"),
        ):
            if key not in bad and (given[owner] == value) != (given[key] is not None):
                there = given[key] is not None
                expected = f"goes with {owner}: {value}; expected no such key" if there else f"is required by {value}"
                problems.append(((key,), expected))
        return data, problems

    @model_serializer(mode="wrap")
    def _own_options(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """What is given alone: an option that comes later changes nobody's id."""
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def options(self) -> dict[str, Any]:
        """What the constructor of `Graph` takes."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class ExchangesConfig(Section):
    """Exchanges of two neighbors at random times."""

    rate: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Exchanges of a client in a round, on average; it trains once, on average."
    )
    eta: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="How fast a client's two models mix; the paper's for this graph by default, 0: never."
    )


def _numbers(path: str) -> list[list[float]]:
    """The numbers of a file .csv, line by line.

    Raises:
        InputError: the file cannot be read, or holds anything else.
    """
    file = Path(path)
    if file.suffix.lower() != ".csv":
        raise InputError(f"expected a file .csv, got {path!r}")
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: expected at most {_MOST_BYTES >> 20} MiB")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    rows = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        try:
            rows += [[float(value) for value in row]] if row else []
        except ValueError:
            raise InputError(f"{path}, line {number}: expected numbers between commas, got {','.join(row)!r}") from None
    if not rows:
        raise InputError(f"{path}: expected lines of numbers, and the file is empty")
    return rows


def _edges(path: str) -> list[list[int]]:
    """The edges of a file: of pairs, or of an adjacency matrix of more than two clients.

    Raises:
        InputError: it is neither.
    """
    rows = _numbers(path)
    if all(len(row) == 2 for row in rows):
        if any(value != int(value) or value < 0 for row in rows for value in row):
            raise InputError(f"{path}: expected two numbers of clients a line")
        return [[int(one), int(other)] for one, other in rows]
    count = len(rows)
    if any(len(row) != count for row in rows) or any(value not in (0, 1) for row in rows for value in row):
        raise InputError(f"{path}: expected two clients a line, or as many lines of 0 and 1 as there are in each")
    if any(rows[one][other] != rows[other][one] for one in range(count) for other in range(one)):
        raise InputError(f"{path}: expected a symmetric matrix: neighbors are each other's")
    return [[other, one] for one in range(count) for other in range(one) if rows[one][other]]
