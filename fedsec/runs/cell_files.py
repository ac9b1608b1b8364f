"""The files of one cell: what it was begun with, its log, its checkpoint, its result, each with a checksum.

`result.json` names the SHA-256 of every other file that carries numbers, and its own; a checkpoint carries its own and
that of the log up to its round. So a single changed bit is noticed, and the cell begins anew.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from fedsec.files import digest, read_json, remove_unfinished, set_aside, write_atomic, write_json
from fedsec.report.evidence.image_tiles import SCORES, TILES
from fedsec.runs.provenance import differences

if TYPE_CHECKING:
    from torch import Tensor

    from fedsec.runs.tasks import TaskSettings
    from fedsec.scenario import CellConfig

RESULT, CHECKPOINT, LOG, MODEL = "result.json", "checkpoint.safetensors", "rounds.jsonl", "model.safetensors"
CONFIG, PARTITION, ERROR = "config.yaml", "partition.json", "error.txt"
_NUMBERS = (CONFIG, PARTITION, LOG, MODEL)
_NAMES = (*_NUMBERS, RESULT, CHECKPOINT, ERROR)
_PICTURE = re.compile(rf"(?:reconstruction(?:-\d+)?\.png|{re.escape(TILES)}|{re.escape(SCORES)})")
_OBSERVED = "leakage"
_AUDITED = "audit"
_AUDIT_PICTURE = re.compile(r"[a-z_]+\.png")
_OF_PICTURE = re.compile(rf"{_OBSERVED}/round-\d+/{_PICTURE.pattern}|{_AUDITED}/{_AUDIT_PICTURE.pattern}")
_REQUIRED = ("id", "status", "metrics", "error", "seconds", "config")


@dataclass(frozen=True)
class Checkpoint:
    """Where an interrupted cell goes on.

    Args:
        state: of the federation.
        history: the lines of the finished rounds.
        threads: CPU threads that the cell was begun with; with as many it ends with the same bits.
        made_with: what those rounds were made with, see `fedsec.runs.provenance`.
    """

    state: "dict[str, Tensor]"
    history: list[dict[str, Any]]
    threads: int
    made_with: dict[str, str]

    @property
    def round(self) -> int:
        """How many rounds are finished."""
        return len(self.history)


class Log:
    """The log of a cell's rounds, one line of JSON each.

    Args:
        file: open for appending in binary mode.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.round = file, hashlib.sha256(), 0

    def append(self, line: Mapping[str, Any]) -> None:
        """Write the line of the next round."""
        content = _encoded(line)
        self._file.write(content)
        self._file.flush()
        self._hash.update(content)
        self.round += 1

    def synchronize(self) -> str:
        """Bring everything to the disk; returns the SHA-256 of all lines."""
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()


@dataclass(frozen=True)
class CellFiles:
    """One cell's folder.

    Args:
        folder: it need not exist.
    """

    folder: Path

    @property
    def error(self) -> Path:
        """The file that says why the cell failed."""
        return self.folder / ERROR

    def begin(self, config: "CellConfig", settings: "TaskSettings", made_with: Mapping[str, str]) -> None:
        """Write down what the cell is, for the reader; forget what an earlier run left of its end."""
        self._make_room()
        content = {"threads": settings.threads, "made_with": dict(made_with), **config.model_dump(mode="json")}
        write_atomic(self.folder / CONFIG, yaml.safe_dump(content, sort_keys=False))
        for name in (RESULT, MODEL):
            (self.folder / name).unlink(missing_ok=True)

    def write_partition(self, content: Mapping[str, Any]) -> None:
        """Write down who got what."""
        write_json(self.folder / PARTITION, content)

    @contextmanager
    def open_log(self, history: Sequence[Mapping[str, Any]]) -> Iterator[Log]:
        """The log, holding the given lines and nothing else so far."""
        path = self.folder / LOG
        write_atomic(path, b"")
        with path.open("ab") as file:
            log = Log(file)
            for line in history:
                log.append(line)
            yield log

    def save_checkpoint(
        self, log: Log, state: "Mapping[str, Tensor]", settings: "TaskSettings", made_with: Mapping[str, str]
    ) -> None:
        """Write down how to go on after the last line of the log."""
        from fedsec.runs.tensor_files import save_tensors

        notes = {
            "round": str(log.round),
            "log": log.synchronize(),
            "threads": str(settings.threads),
            "made_with": json.dumps(dict(made_with)),
        }
        save_tensors(self.folder / CHECKPOINT, state, notes)

    def checkpoint(
        self, made_with: Mapping[str, str], *, keep: bool = False, say: Callable[[str], None] = lambda text: None
    ) -> Checkpoint | None:
        """Where to go on; None if the cell begins with its first round.

        Args:
            made_with: what it would be run with now, see `provenance`.
            keep: go on also from what was made with something else.
            say: is told how the cell begins, if an earlier run left anything.
        """
        from fedsec.runs.tensor_files import DamagedFileError, load_tensors

        try:
            state, notes = load_tensors(self.folder / CHECKPOINT)
            begun_with = dict(json.loads(notes["made_with"]))
            other = differences(begun_with, made_with)
            if other and not keep:
                say(f"begins anew, since it was begun with other {', '.join(other)}")
                return None
            history = self._history(int(notes["round"]), notes["log"])
            threads = int(notes["threads"])
        except FileNotFoundError:
            return None
        except (DamagedFileError, OSError, ValueError, KeyError) as error:
            why = error if isinstance(error, DamagedFileError) else f"{CHECKPOINT} is of another kind"
            say(f"begins anew: {why}")
            return None
        say(f"continues after round {len(history)}")
        return Checkpoint(state, history, threads, begun_with)

    def finish(
        self, record: dict[str, Any], weights: "Mapping[str, Tensor]", made_with: Mapping[str, str]
    ) -> dict[str, Any]:
        """Write the trained model and the result; returns the result as it is written."""
        from fedsec.runs.tensor_files import save_tensors

        save_tensors(self.folder / MODEL, weights)
        sums = {name: digest(self.folder / name) for name in _NUMBERS}
        result = {**record, "made_with": dict(made_with), "files": sums}
        write_json(self.folder / RESULT, {**result, "checksum": _checksum(result)})
        self.error.unlink(missing_ok=True)
        if not result["goes_on"]:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return result

    def adopt_pictures(self, other: "CellFiles") -> None:
        """Take over the pictures of another cell, whose rounds are the first ones of this cell."""
        for path in other.pictures():
            write_atomic(self.folder / path.relative_to(other.folder), path.read_bytes())

    def pictures(self) -> list[Path]:
        """The pictures that a curious server left, and their scores; those of an audit."""
        paths = [*self.folder.glob(f"{_OBSERVED}/round-*/*"), *self.folder.glob(f"{_AUDITED}/*")]
        names = ((path, path.relative_to(self.folder).as_posix()) for path in paths)
        return [path for path, name in names if _OF_PICTURE.fullmatch(name) and path.is_file()]

    def take(self, files: Mapping[str, bytes]) -> None:
        """Write files of the cell that a worker without this folder sent, each after those that it is a checksum of.

        Args:
            files: content by path below the folder.

        Raises:
            ValueError: one is none of a cell's files.
        """
        self._make_room()
        for name in sorted(files, key=lambda name: (name == RESULT, name == CHECKPOINT)):
            if name not in _NAMES and not _OF_PICTURE.fullmatch(name):
                raise ValueError(f"{name!r} is no file of a cell")
            write_atomic(self.folder / name, files[name])
        if RESULT in files:
            self.error.unlink(missing_ok=True)
            if not json.loads(files[RESULT]).get("goes_on"):
                (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def fail(self, text: str) -> None:
        """Write down why the cell failed."""
        self._make_room()
        write_atomic(self.error, text)

    def result(self) -> tuple[dict[str, Any] | None, str | None]:
        """(the record of a finished cell, None) or (None, what is wrong with it; None if there is none)."""
        path = self.folder / RESULT
        if not os.path.lexists(path):
            return None, None
        try:
            record = read_json(path)
            checksum = record.pop("checksum")
            if checksum != _checksum(record) or any(name not in record for name in _REQUIRED):
                return None, f"{RESULT} is damaged"
            sums = record["files"]
            damaged = [name for name in _NUMBERS if sums[name] and digest(self.folder / name) != sums[name]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None, f"{RESULT} is damaged, or was written by another version of fedsec"
        return (None, f"{', '.join(damaged)} changed or is missing") if damaged else (record, None)

    def last_round(self) -> int:
        """After which round an interrupted cell would go on, as far as one can tell without reading it all."""
        from fedsec.runs.tensor_files import DamagedFileError, read_notes

        with suppress(FileNotFoundError, DamagedFileError, KeyError, ValueError):
            return int(read_notes(self.folder / CHECKPOINT)["round"])
        return 0

    def has(self, name: str) -> bool:
        """Whether a file of the cell is there."""
        path = self.folder / name
        return path.is_file() and not path.is_symlink()

    def owned(self) -> list[Path]:
        """The files that fedsec wrote into the folder."""
        return [*(self.folder / name for name in _NAMES if self.has(name)), *self.pictures()]

    def forget(self, name: str) -> None:
        """Remove the model or the checkpoint of a finished cell, whose result stays as good as it was.

        Args:
            name: of the file. A crash in between leaves the file, which nobody then needs.
        """
        record, _ = self.result()
        if record is None:
            return
        changed = {"goes_on": False} if name == CHECKPOINT else {"files": {**record["files"], name: None}}
        result = {**record, **changed}
        write_json(self.folder / RESULT, {**result, "checksum": _checksum(result)})
        (self.folder / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the files that fedsec writes into a cell's folder, and the folder if nothing else lies there."""
        self.sweep()
        for name in _NAMES:
            path = self.folder / name
            if path.is_file() or path.is_symlink():
                path.unlink()
        observed = self.folder / _OBSERVED
        for path in self.pictures():
            path.unlink()
        for folder in observed.glob("round-*"):
            _remove_empty(folder)
        _remove_empty(observed)
        _remove_empty(self.folder / _AUDITED)
        _remove_empty(self.folder)

    def sweep(self) -> None:
        """Remove what a killed worker left half-written."""
        remove_unfinished(self.folder, lambda name: name in _NAMES)
        for folder in self.folder.glob(f"{_OBSERVED}/round-*"):
            remove_unfinished(folder, lambda name: bool(_PICTURE.fullmatch(name)))
        remove_unfinished(self.folder / _AUDITED, lambda name: bool(_AUDIT_PICTURE.fullmatch(name)))

    def _make_room(self) -> None:
        """Let no folder or file of others stand where this cell's must be: it is renamed."""
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            set_aside(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in _NAMES:
            path = self.folder / name
            if os.path.lexists(path) and not path.is_file():
                set_aside(path)

    def _history(self, rounds: int, checksum: str) -> list[dict[str, Any]]:
        """The first lines of the log.

        Raises:
            ValueError: they are not those that were written.
        """
        from fedsec.runs.tensor_files import DamagedFileError

        if (self.folder / LOG).is_fifo():  # would be waited for
            raise DamagedFileError(f"{LOG} is no file")
        try:
            with (self.folder / LOG).open("rb") as file:
                lines = [file.readline() for _ in range(rounds)]
        except OSError as error:
            raise DamagedFileError(f"{LOG} cannot be read ({error.strerror or error})") from error
        if hashlib.sha256(b"".join(lines)).hexdigest() != checksum:
            raise DamagedFileError(f"{LOG} changed since the checkpoint was written")
        return [json.loads(line) for line in lines]


def _encoded(line: Mapping[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something of others, or is not there
        folder.rmdir()
