"""What lies in a folder that is not a run's, in words for whoever named it."""

from contextlib import suppress
from pathlib import Path

from fedsec.files import read_json

__all__ = ["is_inversion", "is_run", "why_no_run"]

_RESULTS, _RESULT, _MANIFEST = "results.json", "result.json", "manifest.json"
_MOST_NAMED = 6


def is_run(folder: Path) -> bool:
    """Whether a run left its results there."""
    return (folder / _RESULTS).is_file()


def is_inversion(folder: Path) -> bool:
    """Whether an inversion left its results there."""
    return (folder / _RESULT).is_file() and not is_run(folder) and not _is_cell(folder)


def why_no_run(folder: Path) -> str:
    """Why a path is not the folder of a run, and what to name instead.

    Args:
        folder: as it was named.
    """
    if not folder.exists():
        return f"{folder}: there is no such folder; {_expected(folder)}"
    if not folder.is_dir():
        inside = is_run(folder.parent)
        return f"{folder}: is a file; {f'expected its folder, {folder.parent}' if inside else _expected(folder)}"
    if is_run(folder.parent) and _is_cell(folder):
        return f"{folder}: is the folder of one cell; expected that of its run, {folder.parent}"
    if is_inversion(folder):
        return f"{folder}: is the folder of an inversion; expected that of a run, such as runs/NAME"
    if _is_recording(folder):
        return f"{folder}: is a recording; fedsec replay {folder} looks back at it"
    if runs := sorted(inner for inner in folder.iterdir() if is_run(inner)):
        named = ", ".join(map(str, runs[:_MOST_NAMED]))
        rest = f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else ""
        return f"{folder}: is not the folder of a run, it holds {len(runs)} of them; expected one: {named}{rest}"
    if _begun(folder):
        return (
            f"{folder}: holds a run without results: it is at work, or was killed; the command that began it goes on "
            "with it"
        )
    return f"{folder}: is not the folder of a run (it has no {_RESULTS}); {_expected(folder)}"


def _expected(path: Path) -> str:
    """What to name instead."""
    likely = Path("runs") / path.name
    return f"did you mean {likely}?" if path.name and is_run(likely) else "expected one such as runs/NAME"


def _is_cell(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() or (folder / "rounds.jsonl").is_file()


def _is_recording(folder: Path) -> bool:
    from fedsec.recording.manifest import FORMAT

    with suppress(OSError, ValueError, AttributeError):
        return bool(read_json(folder / _MANIFEST).get("format") == FORMAT)
    return False


def _begun(folder: Path) -> bool:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return bool(read_json(folder / _MANIFEST).get("cells"))
    return False
