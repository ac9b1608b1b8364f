"""Files that are either whole or absent."""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedsec.errors import InputError

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")


def made_folder(folder: Path | str, called: str = "") -> Path:
    """A folder, made where there is none.

    Args:
        folder: its path.
        called: what a message names it by, such as `--out`.

    Raises:
        InputError: it cannot be one.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{called} {path}: cannot be used as a folder ({error.strerror or error})".lstrip()) from error
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give another name to write to, beside `path`; what was written there takes its place at once, or not at all.

    A reader, or a crash, sees the old file or the new one, never a part; an exception leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, whole or not at all, see `replacing`."""
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def marked(folder: Path, like: str) -> Iterator[Path]:
    """Leave a file in a folder meanwhile, by which another machine can tell that it sees this very folder.

    Args:
        folder: it need not exist.
        like: name of a file whose unfinished versions are removed there, see `remove_unfinished`: a killed process's
            mark goes with them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{like}.{secrets.token_hex(4)}.tmp"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path, ours: Callable[[str], bool] = lambda name: True) -> None:
    """Remove what a killed process left half-written in a folder (not below it) that nobody else is using.

    Args:
        folder: it need not exist.
        ours: whether a file of this name would be one of ours; others' files stay, whatever they look like.
    """
    for path in folder.glob(".*.tmp"):
        match = _UNFINISHED.fullmatch(path.name)
        if match and ours(match["name"]) and path.is_file() and not path.is_symlink():
            path.unlink()


def set_aside(path: Path) -> Path:
    """Rename what stands at `path` to the first free name beside it (`name.1`, `name.2`, ...); returns the new name."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.{number}")):
        number += 1
    return path.rename(aside)


def digest(path: Path) -> str | None:
    """The SHA-256 of a file's content, in hexadecimal; None if there is no such file, or none that can be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; non-finite numbers are an error, not invalid JSON."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The parsed content of a JSON file.

    Raises:
        OSError: there is none, or something that is no file.
        ValueError: it is not JSON in UTF-8, or nested beyond all bounds.
    """
    if path.is_fifo() or path.is_char_device():  # would be waited for
        raise OSError(errno.EINVAL, "is no file", str(path))
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
