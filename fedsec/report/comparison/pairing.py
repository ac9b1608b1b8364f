"""Which cells of two runs belong together: those at the same place of their matrices, with the same seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsec.report.summary import SEED, Record, describe, display

__all__ = ["CellPair", "Pairing", "pair_cells"]

_NOWHERE = "(elsewhere)"
"""The place on an axis of a cell whose run does not vary it, where the other run has no such value."""


@dataclass(frozen=True)
class CellPair:
    """Two cells that belong together.

    Args:
        setting: axis -> value, without the seed, as the first run calls it.
        seed: of both.
        first: the cell of the first run.
        other: the cell of the other run.
    """

    setting: Mapping[str, str]
    seed: str
    first: Record
    other: Record


@dataclass(frozen=True)
class Pairing:
    """The cells of two runs.

    Args:
        pairs: in the order of the first run.
        only_first: cells of the first run without a partner.
        only_other: cells of the other run without a partner.
        notes: what had to be decided to pair them, a sentence each.
    """

    pairs: Sequence[CellPair]
    only_first: Sequence[Record]
    only_other: Sequence[Record]
    notes: Sequence[str] = ()


@dataclass
class _Cells:
    """The cells of one run, and where each is: axis -> value without the seed, and the seed."""

    name: str
    records: Sequence[Record]
    places: list[dict[str, str]] = field(init=False)
    seeds: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.places = [
            {axis: display(value) for axis, value in record["cell"].items() if axis != SEED} for record in self.records
        ]
        self.seeds = [_seed(record) for record in self.records]

    @property
    def axes(self) -> list[str]:
        return list(dict.fromkeys(axis for place in self.places for axis in place))

    def texts(self, axis: str) -> list[str]:
        """The values of an axis."""
        return list(dict.fromkeys(place[axis] for place in self.places if axis in place))

    def meanings(self, axis: str) -> dict[str, str]:
        """Value of an axis -> what its cells' configurations say there, where all of them say the same."""
        meanings: dict[str, set[str | None]] = {}
        for place, record in zip(self.places, self.records, strict=True):
            if axis in place:
                meanings.setdefault(place[axis], set()).add(meaning(record, axis))
        return {text: only for text, said in meanings.items() if len(said) == 1 and (only := next(iter(said)))}


def pair_cells(first: Sequence[Record], other: Sequence[Record], names: tuple[str, str]) -> Pairing:
    """Pair the cells of two runs.

    An axis that only one run has counts where it has several values: the other's cells are at the value that their
    configuration has there. A value that the runs call by other names, with the same configuration, is the same.

    Args:
        first: the cells' records of the first run.
        other: those of the other run.
        names: of the runs, for notes.
    """
    one, two = _Cells(names[0], first), _Cells(names[1], other)
    notes = [*_align_axes(one, two), *_align_axes(two, one), *_rename(one, two)]
    axes = list(dict.fromkeys([*one.axes, *two.axes]))

    def key(place: Mapping[str, str], seed: str) -> tuple[str | None, ...]:
        return (*(place.get(axis) for axis in axes), seed)

    partners = {key(place, seed): record for place, seed, record in zip(two.places, two.seeds, other, strict=True)}
    pairs, only_first = [], []
    for place, seed, record in zip(one.places, one.seeds, first, strict=True):
        partner = partners.pop(key(place, seed), None)
        if partner is None:
            only_first.append(record)
        else:
            pairs.append(CellPair(place, seed, record, partner))
    return Pairing(pairs, only_first, list(partners.values()), notes)


def meaning(record: Record, axis: str) -> str | None:
    """What a cell's configuration says at the key path of an axis, without labels; None where it says nothing."""
    here: Any = record.get("config") or {}
    for key in axis.split("."):
        if not isinstance(here, Mapping):
            return None
        here = here[key] if key in here else (here.get("options") or {}).get(key)
    return None if here is None else json.dumps(_without_labels(here), sort_keys=True)


def without_partner(records: Sequence[Record]) -> list[str]:
    """Places of cells, each once, with their seeds."""
    places: dict[str, list[str]] = {}
    for record in records:
        axes = {axis: value for axis, value in record["cell"].items() if axis != SEED}
        places.setdefault(describe(axes), []).append(_seed(record))
    return [f"{place} (seed {', '.join(seeds)})" for place, seeds in places.items()]


def _seed(record: Record) -> str:
    return display(record["cell"].get(SEED, (record.get("config") or {}).get(SEED, "")))


def _without_labels(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_labels(item) for key, item in value.items() if key != "label"}
    return [_without_labels(item) for item in value] if isinstance(value, list) else value


def _align_axes(one: _Cells, two: _Cells) -> list[str]:
    """Place the cells of `two` on the axes that only `one` has; says how."""
    notes = []
    for axis in [axis for axis in one.axes if axis not in two.axes]:
        texts = one.texts(axis)
        if len(texts) == 1:
            for place in one.places:
                place.pop(axis, None)
            notes.append(f"{axis} is an axis of {one.name} only, with one value ({texts[0]})")
            continue
        by_meaning = {said: text for text, said in one.meanings(axis).items()}
        for place, record in zip(two.places, two.records, strict=True):
            place[axis] = by_meaning.get(meaning(record, axis) or "", _NOWHERE)
        where = ", ".join(two.texts(axis))
        notes.append(f"{axis} is an axis of {one.name} only ({', '.join(texts)}); all of {two.name} is at {where}")
    return notes


def _rename(one: _Cells, two: _Cells) -> list[str]:
    """Call values of `two` as `one` does, where names differ and configurations do not; says which."""
    notes = []
    for axis in one.axes:
        ours, theirs = one.texts(axis), two.texts(axis)
        known = {said: text for text, said in one.meanings(axis).items() if text not in theirs}
        names = {text: known[said] for text, said in two.meanings(axis).items() if text not in ours and said in known}
        for place in two.places:
            if place.get(axis) in names:
                place[axis] = names[place[axis]]
        notes += [f"{axis}: what {one.name} calls {new}, {two.name} calls {old}" for old, new in names.items()]
    return notes
