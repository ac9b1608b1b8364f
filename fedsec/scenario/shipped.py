"""The scenarios that come with fedsec, by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fedsec.errors import ScenarioError
from fedsec.plugins.registry import nearest

__all__ = ["ScenarioSummary", "find_scenario", "shipped_scenarios", "summary"]

_COUNTED = "about|a|an|few|half|one|two|three|four|five|ten|quarters?|of|to|seconds?|minutes?|hours?"
_DURATION = re.compile(rf"\b((?:(?:{_COUNTED})\s+)+)on (two cores|a CPU)", re.IGNORECASE)
_END_OF_SENTENCE = re.compile(r"[.:;](?=\s|$)")


@dataclass(frozen=True)
class ScenarioSummary:
    """What a scenario is, read without checking it.

    Args:
        name: as it says, or its file's.
        path: its file.
        shows: the first sentence of its description.
        cells: how many.
        datasets: the names of those that it needs.
        duration: how long it takes and on what, if its description says so.
    """

    name: str
    path: Path
    shows: str
    cells: int
    datasets: tuple[str, ...]
    duration: str


@cache
def shipped_scenarios() -> dict[str, Path]:
    """The files of the scenarios that come with fedsec, by name."""
    paths = sorted(Path(str(item)) for item in files("fedsec.scenarios").iterdir() if item.name.endswith(".yaml"))
    return {path.stem: path for path in paths}


def find_scenario(given: Path | str) -> Path:
    """The file that is meant: one that is there, else the scenario of that name that comes with fedsec.

    Args:
        given: a path, or the name of a shipped scenario.

    Raises:
        ScenarioError: there is neither; the text names the nearest shipped one.
    """
    path = Path(given)
    try:
        missing = not path.exists()
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    known = shipped_scenarios()
    is_name = str(given) == path.name and not path.suffix
    if is_name and path.name in known and not path.is_file():
        return known[path.name]
    if missing:
        close = path.stem if path.stem in known else nearest(path.stem, known)
        hint = f" (did you mean {close!r}?)" if close else ""
        raise ScenarioError(
            f"{path}: no such file; expected a scenario in YAML, or the name of one that comes with fedsec{hint}; "
            "fedsec scenarios lists these, fedsec init writes one of your own"
        )
    return path


def summary(path: Path) -> ScenarioSummary:
    """What a scenario's file says it is.

    Nothing that it names is looked at, so this takes a moment even for hundreds of cells.

    Args:
        path: the file.

    Raises:
        ScenarioError: it cannot be read, or is no scenario.
    """
    from fedsec.scenario.matrix import SECTIONS, drafts, read_axes
    from fedsec.scenario.reader import read_file

    content = read_file(path).value
    if not isinstance(content, dict):
        raise ScenarioError(f"{path}: expected a mapping of keys, such as `dataset: digits`")
    axes, problems = read_axes(content.get("matrix", {}))
    if problems:
        raise ScenarioError(f"{path}: {problems[0][1]}")
    cells = [draft.values for _, draft in drafts({key: content[key] for key in SECTIONS if key in content}, axes)]
    datasets = dict.fromkeys(filter(None, map(_dataset, cells)))
    description = " ".join(str(content.get("description", "")).split())
    duration = _DURATION.search(description)
    return ScenarioSummary(
        str(content.get("name", path.stem)),
        path,
        _END_OF_SENTENCE.split(description, maxsplit=1)[0],
        len(cells),
        tuple(datasets),
        duration[0].lower().replace("cpu", "CPU") if duration else "",
    )


def _dataset(cell: Mapping[str, Any]) -> str | None:
    """The name of a cell's dataset, as far as it is written down."""
    named = cell.get("dataset")
    name = named.get("name") if isinstance(named, Mapping) else named
    return name if isinstance(name, str) else None
