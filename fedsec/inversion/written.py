"""Which files of a folder an inversion wrote: those that its `result.json` lists."""

from pathlib import Path

from fedsec.files import read_json, write_json

__all__ = ["RESULT", "clear", "enlist", "listed"]

RESULT = "result.json"


def clear(root: Path) -> None:
    """Remove the files that an earlier inversion's `result.json` lists, and nothing else that may lie there."""
    for name in listed(root):
        path = root / name
        if path.is_file():
            path.unlink()


def listed(root: Path) -> list[str]:
    """Names of the files that an inversion wrote here; none if the folder has no `result.json` of an inversion."""
    try:
        content = read_json(root / RESULT)
    except (OSError, ValueError):
        return []
    if not isinstance(content, dict) or not {"verdict", "files"} <= content.keys():
        return []
    names = content["files"]
    if not isinstance(names, list):
        return []
    # A list that someone has edited must not lead out of the folder.
    return [name for name in names if isinstance(name, str) and name == Path(name).name]


def enlist(root: Path, name: str) -> None:
    """Count a further file among those that the inversion wrote here."""
    if name not in listed(root):
        content = read_json(root / RESULT)
        write_json(root / RESULT, {**content, "files": [name, *content["files"]]})
