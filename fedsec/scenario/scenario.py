"""A scenario file: one base configuration, the axes that vary it, and what is expected of the results."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedsec.errors import ScenarioError
from fedsec.plugins.pages import SCENARIOS
from fedsec.plugins.registry import keys_hint
from fedsec.plugins.wording import Problem, shown, translate
from fedsec.scenario.config import CellConfig
from fedsec.scenario.expectations import Expectation, read_expectations
from fedsec.scenario.matrix import SECTIONS, Axis, Draft, display, drafts, read_axes, without_effect
from fedsec.scenario.named_sections import WRITTEN
from fedsec.scenario.overrides import apply
from fedsec.scenario.reader import Document, KeyPath, read_file, read_mapping
from fedsec.scenario.shipped import find_scenario

UNNAMED = "scenario"
"""What a scenario that is no file is called unless it says so itself."""
KEYS = ("name", "description", *SECTIONS, "matrix", "expect")
_NAME = re.compile(r"[a-z0-9_-]{1,100}")
_MOST_PROBLEMS = 20
_LONGEST_KEY = 100
_LAST = sys.maxsize


@dataclass(frozen=True)
class Cell:
    """One experiment of the matrix.

    Args:
        id: hash of all that its numbers depend on; names its folder.
        axes: each varied key with its value as tables show it.
        values: the same as it stands in the file.
        config: the resolved configuration.
        draft: where the configuration's values stand in the file.
    """

    id: str
    axes: dict[str, str]
    values: dict[str, Any] = field(repr=False)
    config: CellConfig = field(repr=False)
    draft: Draft = field(repr=False, compare=False)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The resolved configuration as plain data."""
        return self.config.model_dump(mode="json")

    def __str__(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.axes.items()) or "the only cell"


@dataclass(frozen=True)
class Scenario:
    """A scenario that has been read and checked.

    Args:
        source: its file, for messages.
        name: names the run folder.
        description: what it is for, in the author's words.
        matrix: its cells in file order, the last axis varying fastest.
        expectations: what is expected of the results.
        set_aside: expectations that are about no cell any more, since settings from outside changed the matrix.
    """

    source: "ScenarioFile" = field(repr=False)
    name: str
    description: str
    matrix: tuple[Cell, ...] = field(repr=False)
    expectations: tuple[Expectation, ...]
    set_aside: tuple[Expectation, ...] = ()

    @property
    def path(self) -> Path:
        """Its file."""
        return self.source.path

    def cells(self) -> list[Cell]:
        """The cells in file order."""
        return list(self.matrix)


@dataclass(frozen=True)
class ScenarioFile:
    """A scenario's file, its lines, and what was set from outside.

    Args:
        path: the file; its name alone, where there is none.
        document: its content with the overrides applied, and the line of each key.
        overridden: key paths that were set from outside.
        overrides: what set them, as in `federation.rounds=2`.
    """

    path: Path
    document: Document
    overridden: frozenset[KeyPath] = frozenset()
    overrides: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The file as it was written, before any overrides."""
        return self.document.text

    def error(self, problems: Iterable[Problem]) -> ScenarioError | None:
        """An error that lists the problems, one a line; None if there are none.

        Args:
            problems: with key paths as they stand in the file.
        """
        ordered = sorted(problems, key=lambda problem: self._number(problem[0]))
        lines = list(dict.fromkeys(self._line(path, message) for path, message in ordered))
        if len(lines) > _MOST_PROBLEMS:
            lines = [*lines[:_MOST_PROBLEMS], f"{self.path}: and {len(lines) - _MOST_PROBLEMS} more mistakes"]
        return ScenarioError("\n".join(lines)) if lines else None

    def _line(self, path: KeyPath, message: str) -> str:
        number, key = self._number(path), dotted(path)
        where = f"{self.path}:{number}" if 0 < number < _LAST else str(self.path)
        key += " (from --set)" if number == _LAST else ""
        # Messages quote what somebody else wrote; that must not forge lines or steer terminals.
        message = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
        return f"{where}: {key}: {message}" if key else f"{where}: {message}"

    def _number(self, path: KeyPath) -> int:
        """The line of a key path or of what encloses it; 0 if there is none, the last for what was set from outside."""
        if any(path[: len(other)] == other[: len(path)] for other in self.overridden):
            return _LAST
        for length in range(len(path), 0, -1):
            if path[:length] in self.document.lines:
                return self.document.lines[path[:length]]
        return 0


def load_scenario(scenario: Path | str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario and check all of it.

    Args:
        scenario: its file, the name of one that comes with fedsec, or what stands in a file as a mapping.
        overrides: settings `key.path=value` that replace what the file says; values are YAML.

    Raises:
        ScenarioError: the file, an override or what they say is malformed or contradicts itself; one line for each
            mistake with file, line, key path and what was expected.
    """
    if isinstance(scenario, Mapping):
        path, document = Path(UNNAMED), read_mapping(scenario)
    else:
        path = find_scenario(scenario)
        document = read_file(path)
    if document.value is None:
        raise ScenarioError(f"{path}: is empty; expected a scenario, at least `dataset: digits`")
    if not isinstance(document.value, dict):
        raise ScenarioError(f"{path}: expected a mapping of keys ({', '.join(KEYS)}), got {shown(document.value)}")
    source = ScenarioFile(path, document, frozenset(apply(document, overrides)), tuple(overrides))
    content = document.value
    problems = list(_top_level(content, path))
    axes, wrong_axes = read_axes(content.get("matrix", {}))
    cells: list[Cell] = []
    expectations: list[Expectation] = []
    if not wrong_axes:
        cells, wrong_cells = _unfold({key: content[key] for key in SECTIONS if key in content}, axes)
        problems += wrong_cells
        if not wrong_cells:
            narrowed = any(key[0] != "expect" for key in source.overridden)
            expectations, wrong_expectations = read_expectations(content.get("expect", []), cells, narrowed=narrowed)
            problems += wrong_expectations
    if error := source.error([*problems, *wrong_axes]):
        raise error
    name, description = content.get("name", path.stem), content.get("description", "")
    about_cells = tuple(expectation for expectation in expectations if expectation.cells)
    set_aside = tuple(expectation for expectation in expectations if not expectation.cells)
    return Scenario(source, name, description, tuple(cells), about_cells, set_aside)


def _unfold(base: Mapping[str, Any], axes: Sequence[Axis]) -> tuple[list[Cell], list[Problem]]:
    unfolded = list(drafts(base, axes))
    problems: list[Problem] = []
    lost: list[Problem] = []
    cells = []
    for values, draft in unfolded:
        try:
            config = CellConfig.model_validate(draft.values, context=WRITTEN)
        except ValidationError as error:
            problems += [(origin(draft, path), message) for path, message in translate(error, CellConfig)]
            continue
        lost += draft.lost()
        axes_shown = {key: display(value) for key, value in values.items()}
        cells.append(Cell(config.id, axes_shown, values, config, draft))
    # What found no place hides what stands there; one message is enough.
    problems += lost or without_effect(base, axes, [draft for _, draft in unfolded])
    return cells, problems or list(_alike(cells))


def dotted(path: KeyPath) -> str:
    """A key path as messages show it: `matrix.attack[1].fraction`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path)
    return text.removeprefix(".")


def _key(key: str) -> str:
    """A key as it is if it can be read on a line, else quoted."""
    return key if key.isprintable() and 0 < len(key) <= _LONGEST_KEY else shown(key)


def _top_level(content: Mapping[str, Any], path: Path) -> Iterable[Problem]:
    """Mistakes in what belongs to the file and not to a cell."""
    for key in content:
        if key not in KEYS:
            yield (key,), f"unknown key{keys_hint(key, KEYS)}; see {SCENARIOS}, or fedsec init"
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        whose = "" if "name" in content else " from the file's name (say another with the key `name`)"
        yield ("name",), f"expected lower-case letters, digits, _ and - only, got {shown(name)}{whose}"
    if not isinstance(content.get("description", ""), str):
        yield ("description",), f"expected text, got {shown(content['description'])}"


def origin(draft: Draft, path: KeyPath) -> KeyPath:
    """Where in the file the culprit of a message about a cell stands."""
    if path[:2] == ("defense", 0) and not isinstance(draft.values.get("defense"), list):
        path = ("defense", *path[2:])
    return draft.origin(path)


def _alike(cells: Sequence[Cell]) -> Iterable[Problem]:
    """Cells that are the same experiment, or that no table could tell apart."""
    ids: dict[str, Cell] = {}
    looks: dict[tuple[str, ...], Cell] = {}
    for cell in cells:
        if cell.id in ids:
            yield ("matrix",), f"two cells are the same experiment: ({ids[cell.id]}) and ({cell}); expected each once"
        elif tuple(cell.axes.values()) in looks:
            yield ("matrix",), f"two cells look alike in tables: ({cell}); expected labels that tell them apart"
        ids.setdefault(cell.id, cell)
        looks.setdefault(tuple(cell.axes.values()), cell)
