"""Cells of several probes as one scenario: what they have in common once, what differs in one line of a matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["scenario_of", "scenario_text"]

_NOTHING = {"attack": "none", "inversion": "none"}
"""Sections that a cell may lack, and how a matrix says so."""
_ORDER = ("dataset", "partition", "model", "federation", "attack", "inversion", "audit", "defense", "metrics", "seed")


def scenario_of(name: str, description: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A scenario of exactly these cells, in this order.

    Args:
        name: of the run's folder.
        description: for its reader.
        cells: sections of each; equal ones count once.
    """
    distinct: list[dict[str, Any]] = []
    for cell in cells:
        if dict(cell) not in distinct:
            distinct.append(dict(cell))
    names = sorted({name for cell in distinct for name in cell}, key=_place)
    common = {
        name: distinct[0].get(name) for name in names if all(_equal(cell, distinct[0], name) for cell in distinct)
    }
    scenario: dict[str, Any] = {"name": name, "description": description}
    scenario |= {name: value for name, value in common.items() if value is not None}
    varying = [name for name in names if name not in common]
    if varying:
        rows = [[cell.get(name, _NOTHING.get(name)) for name in varying] for cell in distinct]
        scenario["matrix"] = {"+".join(varying): rows if len(varying) > 1 else [row[0] for row in rows]}
    return scenario


def scenario_text(scenario: Mapping[str, Any], head: Sequence[str] = ()) -> str:
    """A scenario as a file.

    Args:
        scenario: plain data.
        head: lines of comment before it.
    """
    comment = "".join(f"# {' '.join(line.split())}\n" for line in head)
    return comment + yaml.safe_dump(dict(scenario), sort_keys=False, allow_unicode=True, width=110)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    nothing = _NOTHING.get(name)
    return bool(one.get(name, nothing) == other.get(name, nothing))


def _place(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
