"""YAML as a scenario needs it: plain data, the line of every key, and no surprises.

Scalars are read by YAML 1.2's core schema, so `1e-3` is a number and `no` is text. Duplicate keys, unknown
tags and documents that unfold beyond all bounds are errors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsec.errors import ScenarioError
from fedsec.plugins.wording import shown

KeyPath = tuple[str | int, ...]

LARGEST = 1 << 18  # bytes
MOST_VALUES = 20_000
DEEPEST = 40

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_MOST_DIGITS = 40
_PLAIN = "plain"
_MOST_NAMED = 2
_KINDS: dict[str, Any] = {"int": int, "float": int | float, "bool": bool, "null": type(None)}


class _Loader(yaml.BaseLoader):
    """Keeps apart what is quoted and what is not; `_plain` then decides what unquoted text means."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node that carries none."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


@dataclass
class Document:
    """A YAML document as plain data.

    Args:
        value: mappings, lists, text, numbers, truth values and None.
        lines: the line on which each key or list entry begins, counted from 1.
        text: as it was written; of plain data, as it would be written.
    """

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    text: str = ""


def read_file(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ScenarioError: unreadable, too large, not UTF-8, or not YAML as described above.
    """
    try:
        if not path.exists():
            raise ScenarioError(f"{path}: no such file; expected a scenario in YAML")
        if path.is_dir():
            raise ScenarioError(f"{path}: is a folder; expected a scenario in YAML{_inside(path)}")
        if not path.is_file():
            raise ScenarioError(f"{path}: is not a file; expected a scenario in YAML")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > LARGEST:
        raise ScenarioError(f"{path}: is larger than {LARGEST >> 10} KiB; expected a scenario of a few lines")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ScenarioError(f"{path}:{line}: is not UTF-8 text; expected a scenario in YAML") from error
    return read_text(text, str(path))


def _inside(folder: Path) -> str:
    """The YAML files of a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))[:_MOST_NAMED]
    return f", such as {' or '.join(str(folder / name) for name in names)}" if names else ""


def read_mapping(mapping: Mapping[str, Any]) -> Document:
    """A scenario as plain data, such as `{"dataset": "digits"}`; tuples are lists, paths are text.

    Raises:
        ScenarioError: it holds what no YAML could, or too much of it.
    """
    value = _plain_data(mapping, (), [0])
    return Document(value, text=yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _plain_data(value: Any, path: KeyPath, count: list[int]) -> Any:
    where = ".".join(map(str, path)) or "scenario"
    count[0] += 1
    if count[0] > MOST_VALUES or len(path) > DEEPEST:
        raise ScenarioError(f"{where}: expected at most {MOST_VALUES} values in at most {DEEPEST} levels")
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise ScenarioError(f"{where}: expected keys to be text, got {shown(odd[0])}")
        return {key: _plain_data(item, (*path, key), count) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_data(item, (*path, index), count) for index, item in enumerate(value)]
    if callable(number := getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return _plain_data(number(), path, count)  # NumPy's numbers
    raise ScenarioError(f"{where}: expected a number, text, a list or a mapping, got {type(value).__name__}")


def read_text(text: str, name: str) -> Document:
    """Read YAML text; `name` is what messages call it.

    Raises:
        ScenarioError: it is not YAML, or not of the accepted kind.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        document = Document(None, text=text)
        if node is not None:
            document.value = _Reading(document).value(node, ())
    except _UnacceptableError as error:
        raise ScenarioError(f"{name}{error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise ScenarioError(f"{name}{line}: is not valid YAML: {' '.join(what.split())}") from error
    except yaml.YAMLError as error:
        what = " ".join(str(error).split("\n")[0].split())
        raise ScenarioError(f"{name}: is not valid YAML: {what}") from error
    except RecursionError as error:
        raise ScenarioError(f"{name}: is nested too deeply; expected at most {DEEPEST} levels") from error
    return document


class _UnacceptableError(Exception):
    def __init__(self, node: yaml.Node | None, message: str) -> None:
        super().__init__(f"{f':{node.start_mark.line + 1}' if node else ''}: {message}")


class _Reading:
    """Turns nodes into data. Aliases are unfolded, so what is counted is what they unfold to."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0
        self.open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise _UnacceptableError(
                node, f"unfolds to more than {MOST_VALUES} values; expected fewer aliases or values"
            )
        if len(self.open) > DEEPEST:
            raise _UnacceptableError(node, f"is nested too deeply; expected at most {DEEPEST} levels")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self.open:
            raise _UnacceptableError(node, "an alias contains itself; expected a value that ends")
        self.open.add(id(node))
        try:
            return self._sequence(node, path) if isinstance(node, yaml.SequenceNode) else self._mapping(node, path)
        finally:
            self.open.remove(id(node))

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        _expect_tag(node, "seq")
        return [self._at(item, item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        _expect_tag(node, "map")
        content: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _PLAIN and key_node.value == "<<":
                merged = {**self._merged(value_node, path), **merged}
                continue
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                what = shown(key) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                raise _UnacceptableError(key_node, f"expected keys to be text, got {what}")
            if key in content:
                raise _UnacceptableError(key_node, f"duplicate key {key!r}; it stands on line {lines[key]} already")
            lines[key] = line
            content[key] = self._at(key_node, value_node, (*path, key))
        return {**merged, **content}

    def _at(self, start: yaml.Node, node: yaml.Node, path: KeyPath) -> Any:
        self.document.lines[path] = start.start_mark.line + 1
        return self.value(node, path)

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """The value of a merge key: a mapping, or a list of them of which the earlier win."""
        value = self.value(node, path)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise _UnacceptableError(node, f"expected '<<' to name a mapping, got {shown(value)}")
        return {key: item for part in reversed(parts) for key, item in part.items()}


def _expect_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        raise _UnacceptableError(node, f"unknown tag {_short(node.tag)}; expected plain YAML")


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _UnacceptableError(node, f"expected characters, got half of one (a surrogate) in {shown(text)}")
    if node.tag == _PLAIN:
        return _plain(node, text)
    if node.tag == _TAG + "str":
        return text
    kind = _KINDS.get(node.tag.removeprefix(_TAG))
    if kind is None:
        raise _UnacceptableError(node, f"unknown tag {_short(node.tag)}; expected plain YAML")
    value = _plain(node, text)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _UnacceptableError(node, f"expected {shown(text)} to be what its tag {_short(node.tag)} says")
    return float(value) if node.tag == _TAG + "float" else value


def _plain(node: yaml.ScalarNode, text: str) -> Any:
    """An unquoted scalar's value by YAML 1.2's core schema (with 1_000 as a bonus)."""
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if text.lower() in _SPECIAL:
        return _SPECIAL[text.lower()]
    if len(text) > _MOST_DIGITS and (_INT.fullmatch(text) or _OTHER_INT.fullmatch(text)):
        raise _UnacceptableError(node, f"expected a number of at most {_MOST_DIGITS} digits, got {shown(text)}")
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text
