"""Settings from the command line: `--set federation.rounds=2 --set matrix.seed=[0]`."""

from collections.abc import Sequence
from typing import Any

from fedsec.errors import ScenarioError
from fedsec.plugins.wording import shown
from fedsec.scenario.matrix import BARE
from fedsec.scenario.reader import Document, KeyPath, read_text


def apply(document: Document, overrides: Sequence[str]) -> list[KeyPath]:
    """Replace values of a document, in the order given.

    Args:
        document: changed in place.
        overrides: `key.path=value`; the value is YAML, the path's missing mappings are made. What follows `matrix.` is
            the name of one axis, dots and all; a number counts the entries of a list.

    Returns:
        The key paths that were set.

    Raises:
        ScenarioError: an override is malformed, or its path leads through something that has no keys.
    """
    paths = []
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not all(part.strip() for part in key.split(".")):
            raise ScenarioError(f"--set {shown(text)}: expected key.path=value, such as federation.rounds=2")
        path = tuple(part.strip() for part in key.split("."))
        if path[0] == "matrix" and len(path) > 1:
            path = ("matrix", ".".join(path[1:]))
        paths.append(_put(document.value, path, read_text(value, f"--set {key}").value, f"--set {key}"))
    return paths


def _put(content: dict[str, Any], path: Sequence[str], value: Any, name: str) -> KeyPath:
    here: Any = content
    walked: list[str | int] = []
    for depth, part in enumerate(path):
        last, bare = depth == len(path) - 1, BARE.get(tuple(path[: depth + 1]))
        index: str | int = part
        if isinstance(here, list):
            if not part.isdecimal() or int(part) >= len(here):
                raise ScenarioError(f"{name}: expected the number of an entry, 0 to {len(here) - 1}, got {shown(part)}")
            index = int(part)
        elif not isinstance(here, dict):
            raise ScenarioError(f"{name}: expected a mapping to set {part!r} in, got {shown(here)}")
        walked.append(index)
        if last:
            here[index] = value
            break
        if isinstance(here, dict):
            # `--set dataset.train_size=100` where the file says `dataset: digits`
            if bare and isinstance(here.get(part), str):
                here[part] = {bare: here[part]}
            elif here.get(part) is None:
                here[part] = {}
        here = here[index]
    return tuple(walked)
