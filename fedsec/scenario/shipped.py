"""The scenarios that come with fedsec, by name."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from fedsec.errors import ScenarioError
from fedsec.plugins.registry import nearest

__all__ = ["find_scenario", "shipped_scenarios"]


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
        ScenarioError: there is neither; the text lists the shipped ones.
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
            f"{path}: no such file; expected a scenario in YAML, or the name of one that comes with fedsec{hint}: "
            f"{', '.join(known)}"
        )
    return path
