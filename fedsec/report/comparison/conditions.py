"""What two runs were run with: where their configurations, their code and their versions differ."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsec.report.comparison.pairing import CellPair
from fedsec.report.summary import SEED, display

__all__ = ["Condition", "configuration", "leaves", "versions"]

_MOST = 3


@dataclass(frozen=True)
class Condition:
    """Something that is not the same in all pairs.

    Args:
        name: a key path of scenarios, or whatever has a version.
        first: what it is in the first run; several values where it varies there.
        other: what it is in the other run.
        pairs: in how many pairs it differs.
        of: how many pairs there are.
    """

    name: str
    first: str
    other: str
    pairs: int
    of: int

    def __str__(self) -> str:
        """One line."""
        some = "" if self.pairs == self.of else f" (in {self.pairs} of {self.of} pairs)"
        return f"{self.name}: {self.first} -> {self.other}{some}"


def configuration(pairs: Sequence[CellPair]) -> list[Condition]:
    """Where the configurations of paired cells differ, by key path."""
    return _differing(pairs, lambda record: dict(leaves(record.get("config") or {})))


def versions(pairs: Sequence[CellPair]) -> list[Condition]:
    """Where code, data, versions and machines of paired cells differ."""
    return _differing(pairs, _made_with)


def _differing(pairs: Sequence[CellPair], facts: Callable[[Mapping[str, Any]], dict[str, str]]) -> list[Condition]:
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for pair in pairs:
        first, other = facts(pair.first), facts(pair.other)
        if not first or not other:  # of cells that were not run little is known
            continue
        for name in dict.fromkeys([*first, *other]):
            if first.get(name) != other.get(name):
                counts.setdefault(name, Counter())[first.get(name, "-"), other.get(name, "-")] += 1
    return [
        Condition(name, _several(one for one, _ in count), _several(two for _, two in count), count.total(), len(pairs))
        for name, count in counts.items()
    ]


def _several(texts: Iterator[str]) -> str:
    distinct = list(dict.fromkeys(texts))
    return ", ".join(distinct[:_MOST]) + (f", and {len(distinct) - _MOST} more" if len(distinct) > _MOST else "")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Key paths as scenarios have them, and values; labels and the seed are none of the configuration."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "label" or (key == SEED and not path):
                continue
            yield from leaves(item, path if key == "options" else f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        yield path, ", ".join(_part(item) for item in value)
    else:
        yield path, _text(value)


def _part(value: Any) -> str:
    """One of several methods, with its options."""
    if not isinstance(value, Mapping):
        return _text(value)
    options = ", ".join(f"{key}={_text(item)}" for key, item in (value.get("options") or {}).items())
    return f"{value.get('name')}({options})" if options else str(value.get("name"))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return "null" if value is None else display(value)


_MACHINE = ("python", "numpy", "platform", "device", "threads")


def _made_with(record: Mapping[str, Any]) -> dict[str, str]:
    made_with = {name: str(value) for name, value in (record.get("made_with") or {}).items()}
    environment = record.get("environment") or {}
    return made_with | {name: str(environment[name]) for name in _MACHINE if name in environment}
