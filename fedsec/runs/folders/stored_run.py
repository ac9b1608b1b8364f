"""A run that lies in a folder: what reports, exports and comparisons begin with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsec.errors import InputError
from fedsec.files import read_json
from fedsec.report.page.run_summary import RunSummary
from fedsec.runs.folders.wrong_folders import is_run, why_no_run
from fedsec.runs.store import Store

__all__ = ["StoredRun", "open_run"]


@dataclass(frozen=True)
class StoredRun:
    """A run that lies in a folder.

    Args:
        root: the folder.
        records: one a cell, in the matrix's order: of finished cells all that their `result.json` holds, of others
            what `results.json` says.
        summary: what was asked, and how it ended.
        damaged: what is wrong with finished cells' files, by the cell's id.
    """

    root: Path
    records: list[dict[str, Any]]
    summary: RunSummary
    damaged: dict[str, str]


def open_run(folder: Path) -> StoredRun:
    """Read what a run left in its folder.

    Args:
        folder: `runs/<name>`.

    Raises:
        InputError: it holds no run, or its `results.json` cannot be read.
    """
    path = folder / "results.json"
    if not is_run(folder):
        raise InputError(why_no_run(folder))
    try:
        listed = list(read_json(path))
        ids = [_checked(record)["id"] for record in listed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the scenario again to write it anew") from error
    store = Store(folder)
    records, damaged = [], {}
    for short, cell_id in zip(listed, ids, strict=True):
        whole, wrong = store.cell(cell_id).result() if short.get("status") == "done" else (None, None)
        if wrong is not None:
            damaged[cell_id] = wrong
        records.append(short if whole is None else {**whole, "cell": short["cell"]})
    return StoredRun(folder, records, RunSummary.read(folder), damaged)


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A record that has what every reader of records relies on.

    Raises:
        KeyError: it lacks something.
        ValueError: something in it is not what it is called.
    """
    texts = {name: isinstance(record[name], str) for name in ("id", "status")}
    mappings = {name: isinstance(record[name], dict) for name in ("cell", "metrics")}
    fits = texts | mappings | {"seconds": isinstance(record["seconds"], int | float)}
    if wrong := [name for name, is_so in fits.items() if not is_so]:
        raise ValueError(f"{wrong[0]} of a cell is {record[wrong[0]]!r}")
    return record
