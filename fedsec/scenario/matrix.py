"""From a scenario's base configuration and its axes to one raw configuration a cell.

An axis value is laid over the base key by key, so what it does not mention stays as the base has it. Where
every value came from is kept, for messages and to find settings that take effect nowhere.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsec.plugins.registry import keys_hint
from fedsec.plugins.signatures import as_yaml
from fedsec.plugins.wording import Problem, shown
from fedsec.scenario.config import CellConfig
from fedsec.scenario.inversion_config import NO_INVERSION
from fedsec.scenario.named_sections import Section
from fedsec.scenario.reader import KeyPath
from fedsec.scenario.threat_config import NO_ATTACK

SECTIONS = tuple(CellConfig.model_fields)
MOST_CELLS = 10_000
BARE: dict[KeyPath, str] = {
    ("defense",): "name",
    ("inversion",): "name",
    ("federation", "server", "model"): "name",
    **{
        (section,): kind.shorthand
        for section, field_info in CellConfig.model_fields.items()
        if isinstance(kind := field_info.annotation, type) and issubclass(kind, Section) and kind.shorthand
    },
}
"""Key paths of sections that may be a bare value, and the key that the value then stands for."""
_OPTIONAL: dict[KeyPath, str] = {("attack",): NO_ATTACK, ("inversion",): NO_INVERSION}
"""Sections that may be nothing at all, and the name of nothing; it clears what the base says of them."""


@dataclass
class Draft:
    """A raw configuration and where each of its values stands in the scenario.

    Args:
        values: nested mappings; lists and scalars are leaves.
        origins: key path in `values` -> key path in the scenario.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def copy(self) -> "Draft":
        """An independent copy (leaves are shared; nobody changes them)."""
        return Draft(_copied(self.values), dict(self.origins))

    def lay(self, path: KeyPath, value: Any, origin: KeyPath) -> None:
        """Lay a value over what is at `path`: mappings key by key, anything else whole."""
        if path == ("defense",) and isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list):
            value, origin = value[0], (*origin, 0)
        if isinstance(value, str) and path in BARE:
            value = {BARE[path]: value}
            inner = {next(iter(value)): origin}
        else:
            inner = {key: (*origin, key) for key in value} if isinstance(value, Mapping) else {}
        if path == ("defense",) or (path in _OPTIONAL and inner and value.get("name") == _OPTIONAL[path]):
            self._clear(path)
        if not isinstance(value, Mapping):
            self._clear(path)
            self._parent(path)[path[-1]] = value
        elif not isinstance(self._parent(path).setdefault(path[-1], {}), dict):
            self._clear(path)
            self._parent(path)[path[-1]] = {}
        self.origins[path] = origin
        for key, where in inner.items():
            self.lay((*path, key), value[key], where)

    def origin(self, path: KeyPath) -> KeyPath:
        """Where in the scenario the value at a path stands, or would stand."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return (*self.origins[path[:length]], *path[length:])
        return path

    def lost(self) -> Iterator[Problem]:
        """Settings that found no mapping to stand in, beside or below a value that has no keys."""
        for path, where in self.origins.items():
            here: Any = self.values
            for key in path:
                if not isinstance(here, dict):
                    yield where, f"expected a mapping to set {shown(key)} in, got {shown(here)}"
                    break
                here = here.get(key)

    def used(self) -> set[KeyPath]:
        """Where in the scenario this configuration's leaves stand."""
        inner = {path[:length] for path in self.origins for length in range(len(path))}
        return {origin for path, origin in self.origins.items() if path not in inner}

    def _parent(self, path: KeyPath) -> dict[Any, Any]:
        here: dict[Any, Any] = self.values
        for key in path[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                return {}  # something that holds no keys stands there, which will be said when it is checked
        return here

    def _clear(self, path: KeyPath) -> None:
        self._parent(path).pop(path[-1], None)
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]


@dataclass(frozen=True)
class Axis:
    """One line of the matrix: keys that vary together, and their values.

    Args:
        name: the key in the scenario, as in `attack` or `attack+defense`.
        paths: key path of each of its keys.
        values: for each point of the axis one value a key.
    """

    name: str
    paths: tuple[KeyPath, ...]
    values: tuple[tuple[Any, ...], ...]

    def origin(self, point: int, key: int) -> KeyPath:
        """Where one value stands in the scenario."""
        return ("matrix", self.name, point) if len(self.paths) == 1 else ("matrix", self.name, point, key)


def read_axes(matrix: Any) -> tuple[list[Axis], list[Problem]]:
    """The axes of a scenario's `matrix`, and what is wrong with it."""
    if not isinstance(matrix, Mapping):
        return [], [(("matrix",), f"expected a mapping from keys to lists of values, got {shown(matrix)}")]
    axes: list[Axis] = []
    problems: list[Problem] = []
    seen: dict[KeyPath, str] = {}
    for name, values in matrix.items():
        here: list[Problem] = []
        keys = [key.strip() for key in name.split("+")]
        for key in keys:
            path = tuple(key.split("."))
            if path[0] not in SECTIONS:
                here.append((("matrix", name), f"cannot vary {key!r}: unknown key{keys_hint(path[0], SECTIONS)}"))
            elif path in seen:
                here.append((("matrix", name), f"varies {key!r}, as matrix.{seen[path]} does; expected each key once"))
            seen[path] = name
        here += list(_wrong_values(name, keys, values))
        if not here:
            paths = tuple(tuple(key.split(".")) for key in keys)
            axes.append(Axis(name, paths, tuple(tuple(v) if len(keys) > 1 else (v,) for v in values)))
        problems += here
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST_CELLS:
        problems.append((("matrix",), f"makes {count:,} cells; expected at most {MOST_CELLS:,}"))
    return axes, problems


def _wrong_values(name: str, keys: Sequence[str], values: Any) -> Iterator[Problem]:
    if not isinstance(values, list):
        yield ("matrix", name), f"expected a list of values, got {shown(values)}"
        return
    if not values:
        yield ("matrix", name), "expected at least one value, got an empty list"
    for index, value in enumerate(values):
        if len(keys) > 1 and not (isinstance(value, list) and len(value) == len(keys)):
            message = f"expected a list of {len(keys)} values, one for each of {', '.join(keys)}; got {shown(value)}"
            yield ("matrix", name, index), message


def drafts(base: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[tuple[dict[str, Any], Draft]]:
    """For each cell, in file order: the value on each axis (by key), and the raw configuration."""
    start = Draft()
    for key, value in base.items():
        start.lay((key,), value, (key,))
    for points in itertools.product(*(range(len(axis.values)) for axis in axes)):
        draft, on_axes = start.copy(), {}
        overlays = []
        for axis, point in zip(axes, points, strict=True):
            for index, (path, value) in enumerate(zip(axis.paths, axis.values[point], strict=True)):
                on_axes[".".join(map(str, path))] = value
                overlays.append((path, value, axis.origin(point, index)))
        # `attack` before `attack.fraction`, whatever their order in the file.
        for path, value, origin in sorted(overlays, key=lambda overlay: len(overlay[0])):
            draft.lay(path, value, origin)
        yield on_axes, draft


def without_effect(base: Mapping[str, Any], axes: Sequence[Axis], unfolded: Sequence[Draft]) -> list[Problem]:
    """Settings that another one hides in every cell: a contradiction, not a default."""
    given: set[KeyPath] = set()
    alone = Draft()
    for key, value in base.items():
        alone.lay((key,), value, (key,))
    given |= alone.used()
    for axis in axes:
        for point, values in enumerate(axis.values):
            for index, (path, value) in enumerate(zip(axis.paths, values, strict=True)):
                single = Draft()
                single.lay(path, value, axis.origin(point, index))
                given |= single.used()
    hidden = given.difference(*(draft.used() for draft in unfolded))
    return [
        (origin, "has no effect: the matrix sets it anew in every cell; expected it in one place only")
        for origin in sorted(hidden, key=str)
    ]


def display(value: Any) -> str:
    """An axis value as tables show it: its label, or its name with what is said beside it, or the scalar."""
    if isinstance(value, Mapping):
        label = value.get("label")
        if isinstance(label, str):
            return label
        rest = ", ".join(f"{key}={display(item)}" for key, item in value.items() if key not in ("name", "label"))
        name = display(value["name"]) if "name" in value else ""
        return f"{name}({rest})" if name and rest else name or rest
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(display, value))}]"
    return shown(value) if isinstance(value, str) and not value.isprintable() else as_yaml(value)


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value
