"""A run's folder: where everything lies, and which of it fedsec wrote.

    manifest.json            what lies here that fedsec wrote; nothing else is ever removed or overwritten
    results.json, *.png, ..  the report
    <cell>/                  one folder a cell, see `fedsec.runs.cell_files`
    shared/                  local training that one-round cells share, until all of them are done
    earlier/<n>/             reports about cells that the latest one does not have

Workers write into their cells' folders and into shared/, each file whole or not at all; all else is the business of the
process that holds the lock. So workers may run on other machines that see the same folder.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedsec.errors import BusyError, InputError
from fedsec.files import digest, read_json, remove_unfinished, set_aside, write_atomic, write_json
from fedsec.runs.cell_files import CellFiles

_TRIAL, _ROOM = ".room-for-files", 1 << 16
MANIFEST, EARLIER = "manifest.json", "earlier"
_OF_EARLIER = re.compile(r"[0-9]+/[^/.][^/]*")
"""A file of a report that was kept."""
_ROW = re.compile(r"[0-9a-f]{24}\.safetensors")


class Store:
    """A run's folder.

    Args:
        root: the folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def shared(self) -> Path:
        """The folder of shared local training."""
        return self.root / "shared"

    def cell(self, cell_id: str) -> CellFiles:
        """The files of one cell."""
        return CellFiles(self.root / cell_id)

    def cells(self) -> list[str]:
        """The ids of all cells that were ever begun here."""
        return list(self._manifest()["cells"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            BusyError: another one holds it.
            InputError: it cannot be used.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock", timeout=0)
            lock.acquire()
            _try_room(self.root, lock)
        except Timeout as error:
            message = f"{self.root}: another fedsec process is running this scenario here; wait for it, or use --out"
            raise BusyError(message) from error
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{_short(self.root)}: cannot be used as a run folder ({why})") from error
        try:
            yield
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""
        manifest = self._manifest()
        remove_unfinished(self.root, lambda name: name == MANIFEST or name in manifest["report"])
        remove_unfinished(self.shared, lambda name: bool(_ROW.fullmatch(name)))
        for cell_id in manifest["cells"]:
            self.cell(cell_id).sweep()

    def enter(self, cell_ids: Iterable[str]) -> None:
        """Write down that these cells' folders are fedsec's, before anything is written into them."""
        manifest = self._manifest()
        manifest["cells"] = sorted({*manifest["cells"], *cell_ids})
        if os.path.lexists(self.shared) and not self.shared.is_dir():
            set_aside(self.shared)
        self._write(manifest)

    def take(self, files: Mapping[str, bytes], cell_id: str) -> None:
        """Write what a worker without this folder sent of a cell, and of the training that cells share.

        Args:
            files: content by path below this folder.
            cell_id: the cell's.

        Raises:
            ValueError: a file is none that a worker may write.
        """
        of_cell = {}
        for path, content in files.items():
            folder, _, name = path.partition("/")
            if folder == cell_id:
                of_cell[name] = content
            elif folder == self.shared.name and _ROW.fullmatch(name):
                write_atomic(self.shared / name, content)
            else:
                raise ValueError(f"{path!r} is no file of cell {cell_id}")
        if of_cell:
            self.cell(cell_id).take(of_cell)

    def own_report(self) -> list[Path]:
        """The files of the last report that nobody changed since."""
        report = self._manifest()["report"]
        return [self.root / name for name, checksum in report.items() if digest(self.root / name) == checksum]

    def earlier_reports(self) -> list[Path]:
        """The files of reports that were kept, which nobody changed since."""
        files = self._manifest().get("earlier", {}).items()
        return [path for name, checksum in files if digest(path := self.root / EARLIER / name) == checksum]

    def clear_earlier(self) -> None:
        """Remove the reports that were kept, and their folders where nothing else lies there."""
        files = self.earlier_reports()
        for path in files:
            path.unlink()
        for folder in {*(path.parent for path in files)}:
            with suppress(OSError):  # others' files lie there
                folder.rmdir()
        with suppress(OSError):
            (self.root / EARLIER).rmdir()
        self._write({name: value for name, value in self._manifest().items() if name != "earlier"})

    def is_shared(self, path: Path) -> bool:
        """Whether a file has the name of one of shared training."""
        return bool(_ROW.fullmatch(path.name)) and path.is_file()

    def clear(self) -> None:
        """Remove what the manifest says that fedsec wrote, but for earlier reports."""
        manifest = self._manifest()
        for cell_id in manifest["cells"]:
            self.cell(cell_id).remove()
        for path in self.own_report():
            path.unlink()
        self.give_back()
        self._write({**manifest, "cells": [], "report": {}})

    def give_back(self) -> int:
        """Remove the shared training; returns its size in bytes."""
        size = 0
        for path in self.shared.glob("*.safetensors"):
            if self.is_shared(path):
                size += path.stat().st_size
                path.unlink()
        with suppress(OSError):  # others' files lie there, or there is no such folder
            self.shared.rmdir()
        return size

    def report(self, cell_ids: Iterable[str], draw: Callable[[Path], None]) -> Path | None:
        """Put a new report in the place of the last one.

        A last one about finished cells that the new one does not have is kept, in a folder of its own. Files of others
        that bear a name of the report's are renamed.

        Args:
            cell_ids: the finished cells that the new report has.
            draw: writes the report's files into the folder that it is given.

        Returns:
            Where the last report is kept, if it is.
        """
        manifest = self._manifest()
        present = {name for name, checksum in manifest["report"].items() if digest(self.root / name) == checksum}
        earlier = None
        if present and self._finished_cells() - set(cell_ids):
            earlier = self._next_earlier()
            for name in present:
                (self.root / name).rename(earlier / name)
            moved = {f"{earlier.name}/{name}": manifest["report"][name] for name in present}
            manifest["earlier"] = {**manifest.get("earlier", {}), **moved}
        else:
            for name in present - {"results.json"}:  # which a crash must not lose
                (self.root / name).unlink()
        with tempfile.TemporaryDirectory(prefix="fedsec-report-") as folder:
            draw(Path(folder))
            drawn = sorted(path.name for path in Path(folder).iterdir())
            for name in drawn:
                if os.path.lexists(place := self.root / name) and name not in present:
                    set_aside(place)
                write_atomic(place, (Path(folder) / name).read_bytes())
        self._write({**manifest, "report": {name: digest(self.root / name) for name in drawn}})
        return earlier

    def adopt(self, name: str) -> None:
        """Write down that a file of the report is fedsec's as it is now, where it is known what else is."""
        if (self.root / MANIFEST).is_file():
            manifest = self._manifest()
            self._write({**manifest, "report": {**manifest["report"], name: digest(self.root / name)}})

    def report_files(self) -> list[str]:
        """Names of the files of the last report."""
        return list(self._manifest()["report"])

    def _finished_cells(self) -> set[str]:
        """The finished cells of the last report."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            records = read_json(self.root / "results.json")
            return {record["id"] for record in records if record["status"] == "done"}
        return set()

    def _next_earlier(self) -> Path:
        number = 1
        while os.path.lexists(folder := self.root / EARLIER / str(number)):
            number += 1
        folder.mkdir(parents=True)
        return folder

    def _manifest(self) -> dict[str, Any]:
        """What fedsec wrote here; nothing, where the manifest cannot be read."""
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            content = read_json(self.root / MANIFEST)
            cells = [name for name in content["cells"] if re.fullmatch(r"[0-9a-f]{12}", name)]
            report = {
                name: checksum
                for name, checksum in content["report"].items()
                if Path(name).name == name and not name.startswith(".") and isinstance(checksum, str)
            }
            earlier = {
                name: checksum
                for name, checksum in content.get("earlier", {}).items()
                if _OF_EARLIER.fullmatch(name) and isinstance(checksum, str)
            }
            return {"cells": cells, "report": report, **({"earlier": earlier} if earlier else {})}
        return {"cells": [], "report": {}}

    def _write(self, manifest: dict[str, Any]) -> None:
        path = self.root / MANIFEST
        if os.path.lexists(path) and not path.is_file():
            set_aside(path)
        about = "What fedsec wrote into this folder. Nothing else is removed or overwritten."
        write_json(path, {"about": about, **manifest})


def _try_room(folder: Path, lock: FileLock) -> None:
    """Let a disk that is full say so before any work is done."""
    try:
        write_atomic(folder / _TRIAL, bytes(_ROOM))
        (folder / _TRIAL).unlink()
    except BaseException:
        lock.release()
        raise


def _short(path: Path, most: int = 200) -> str:
    text = str(path)
    return text if len(text) <= most else text[:most] + "..."
