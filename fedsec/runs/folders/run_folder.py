"""The folder of a scenario's run."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from fedsec.files import read_json
from fedsec.report.page.run_summary import RunSummary
from fedsec.runs.cell_files import CHECKPOINT, ERROR, MODEL, RESULT
from fedsec.runs.folders.folder import LeftFolder, Part, State
from fedsec.runs.store import MANIFEST, Store

__all__ = ["RunFolder"]

_RESULTS = "results.json"


class RunFolder(LeftFolder):
    """The folder of a scenario's run: a folder for each cell, a report, and a manifest of both."""

    kind = "run"

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """Whether its manifest lists cells, or cannot be read."""
        try:
            content = read_json(path / MANIFEST)
        except OSError:
            return False
        except ValueError:
            return (path / _RESULTS).is_file()
        return isinstance(content, dict) and {"cells", "report"} <= content.keys()

    def state(self) -> State:
        """How the run ended, told from what its cells left."""
        cells = self._cells()
        finished = [cell_id for cell_id, status in cells.items() if status in ("done", "refused")]
        failed = [cell_id for cell_id, status in cells.items() if status == "failed"]
        counts = (len(finished), len(cells), len(failed))
        if self.is_busy():
            return State("running", *counts)
        if not cells:
            return State("unreadable" if not self._readable else "interrupted")
        if failed:
            return State("failed", *counts)
        return State("done" if len(finished) == len(cells) else "interrupted", *counts)

    def about(self) -> str:
        """The scenario's description."""
        return " ".join(RunSummary.read(self.path).question.split())

    def owned(self, part: Part) -> list[Path]:
        """Everything that the manifest lists; or the checkpoints or models of finished cells.

        An unfinished cell keeps its checkpoint: it could not go on without.
        """
        cells = [self._store.cell(cell_id) for cell_id in self._store.cells()]
        if part == "all":
            shared = [path for path in self._store.shared.glob("*.safetensors") if self._store.is_shared(path)]
            paths = [path for cell in cells for path in cell.owned()]
            reports = [*self._store.own_report(), *self._store.earlier_reports()]
            return [*paths, *shared, *reports, self.path / MANIFEST]
        name = CHECKPOINT if part == "checkpoints" else MODEL
        return [cell.folder / name for cell in cells if (cell.folder / RESULT).is_file() and cell.has(name)]

    def _remove(self, part: Part) -> None:
        if part == "all":
            self._store.sweep()
            self._store.clear()
            self._store.clear_earlier()
            (self.path / MANIFEST).unlink(missing_ok=True)
            return
        for path in self.owned(part):
            self._store.cell(path.parent.name).forget(path.name)

    @property
    def _store(self) -> Store:
        return Store(self.path)

    @cached_property
    def _readable(self) -> bool:
        with suppress(OSError, ValueError):
            read_json(self.path / MANIFEST)
            return True
        return False

    def _cells(self) -> dict[str, str]:
        """Cell id -> how it ended: as the report says, but for what its folder knows better.

        A run that was killed has written no report, or one that is older than the cells that it began.
        """
        cells = self._reported()
        unreported = [cell_id for cell_id in self._store.cells() if cell_id not in cells]
        later = not cells or any(self._is_newer(cell_id) for cell_id in unreported)
        for cell_id in (*cells, *unreported) if later else tuple(cells):
            folder = self.path / cell_id
            if (folder / RESULT).is_file():
                cells[cell_id] = "done"
            elif (folder / ERROR).is_file():
                cells[cell_id] = "failed"
            elif cells.get(cell_id) != "refused":
                cells[cell_id] = "pending"
        return cells

    def _reported(self) -> dict[str, str]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            records: list[dict[str, Any]] = read_json(self.path / _RESULTS)
            return {str(record["id"]): str(record["status"]) for record in records}
        return {}

    def _is_newer(self, cell_id: str) -> bool:
        """Whether a cell was begun after the last report, so that it is of a later run."""
        with suppress(OSError):
            return (self.path / cell_id).stat().st_mtime > (self.path / _RESULTS).stat().st_mtime
        return False
