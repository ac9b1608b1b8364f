"""Where what fedsec left is looked for: by name, or everything in a folder."""

from collections.abc import Sequence
from pathlib import Path

from fedsec.errors import InputError
from fedsec.plugins.registry import nearest
from fedsec.runs.folders.folder import LeftFolder
from fedsec.runs.folders.other_folders import InversionFolder, RecordingFolder
from fedsec.runs.folders.run_folder import RunFolder

__all__ = ["USUAL", "folder_at", "folders_in", "named", "usual_folders", "without_repetitions"]

USUAL = (Path("runs"), Path("inversions"))
"""Where runs and inversions leave their results unless told otherwise."""
_KINDS: tuple[type[LeftFolder], ...] = (RunFolder, InversionFolder, RecordingFolder)


def folder_at(path: Path) -> LeftFolder | None:
    """What fedsec left in a folder; None if it left nothing there."""
    return next((kind(path) for kind in _KINDS if kind.recognizes(path)), None)


def folders_in(place: Path) -> list[LeftFolder]:
    """What fedsec left in a folder: in itself, or else in the folders in it, by name.

    Raises:
        InputError: there is no such folder, or it cannot be listed.
    """
    if not place.is_dir():
        what = "is a file" if place.exists() else "there is no such folder"
        raise InputError(f"{place}: {what}; expected a folder of runs, such as runs/")
    if (itself := folder_at(place)) is not None:
        return [itself]
    try:
        inner = sorted(path for path in place.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"{place}: cannot be listed ({error.strerror or error})") from error
    return [folder for path in inner if (folder := folder_at(path)) is not None]


def usual_folders() -> list[LeftFolder]:
    """What fedsec left in `runs/` and `inversions/`."""
    return [folder for place in USUAL if place.is_dir() for folder in folders_in(place)]


def without_repetitions(folders: Sequence[LeftFolder]) -> list[LeftFolder]:
    """Folders without those that links lead to a second time."""
    once: dict[Path, LeftFolder] = {}
    for folder in sorted(folders, key=lambda folder: folder.path.is_symlink()):
        once.setdefault(folder.path.resolve(), folder)
    return [folder for folder in folders if once[folder.path.resolve()] is folder]


def named(names: Sequence[str]) -> list[LeftFolder]:
    """What is meant by names: folders in `runs/` or `inversions/`, or paths; of a folder of folders all.

    Raises:
        InputError: nothing that fedsec left has this name.
    """
    known = {folder.path.name: folder for folder in reversed(usual_folders())}
    folders: list[LeftFolder] = []
    for name in names:
        if name in known:
            matches = [known[name]]
        elif Path(name).is_dir():
            matches = folders_in(Path(name))
        else:
            matches = []
        if not matches:
            close = nearest(name, known)
            hint = f" (did you mean {close!r}?)" if close else ""
            raise InputError(f"{name}: is nothing that fedsec left{hint}; fedsec runs lists what there is")
        folders += matches
    return without_repetitions(folders)
