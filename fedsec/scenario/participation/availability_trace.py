"""When clients were there, from a file: CSV with the columns client, from and until, or JSON with a list of such."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from fedsec.errors import InputError

COLUMNS = ("client", "from", "until")
_MOST_BYTES = 4 << 20


def read_trace(path: str) -> list[list[int]]:
    """The lines of a trace.

    Args:
        path: of a file whose name ends in .csv or .json.

    Returns:
        For each time that a client was there its number and the first and the last round.

    Raises:
        InputError: the file cannot be read, or is no trace.
    """
    file = Path(path)
    if file.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"expected a file .csv or .json with {', '.join(COLUMNS)}, got {path!r}")
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: expected at most {_MOST_BYTES >> 20} MiB of intervals")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return _of_json(text, path) if file.suffix.lower() == ".json" else _of_csv(text, path)


def _of_csv(text: str, path: str) -> list[list[int]]:
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise InputError(f"{path}: expected a first line with {', '.join(COLUMNS)}; {missing[0]} is missing")
    return [_interval([row[name] for name in COLUMNS], f"{path}, line {rows.line_num}") for row in rows]


def _of_json(text: str, path: str) -> list[list[int]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON: {error}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of intervals, got {type(rows).__name__}")
    intervals = []
    for number, row in enumerate(rows, 1):
        values = [row.get(name) for name in COLUMNS] if isinstance(row, dict) else row
        intervals.append(_interval(values, f"{path}, entry {number}"))
    return intervals


def _interval(values: Any, place: str) -> list[int]:
    try:
        client, begin, until = (int(value) if isinstance(value, str) else value for value in values)
        if not all(type(value) is int for value in (client, begin, until)):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"{place}: expected three whole numbers, {', '.join(COLUMNS)}; got {values!r}") from None
    return [client, begin, until]
