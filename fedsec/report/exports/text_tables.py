"""Tables of numbers as text, for spreadsheets and scripts."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from fedsec.report.exports.tidy import BY_CLIENT, TidyTable
from fedsec.report.summary import display

__all__ = ["harmless", "to_csv"]


def to_csv(table: TidyTable) -> str:
    """A table as comma-separated values; lists are spread over numbered columns, lists of clients left out.

    Numbers have all their digits; what was not measured is empty. Text that a spreadsheet would take for a formula
    begins with an apostrophe.
    """
    values = {name: column for name, column in table.values.items() if not _by_client(name, column)}
    columns = TidyTable(table.keys, values).spread().columns
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([harmless(name) for name in columns])
    for row in range(len(table)):
        writer.writerow([harmless(_written(column[row])) for column in columns.values()])
    return file.getvalue()


def harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay what they are."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _by_client(name: str, column: Sequence[Any]) -> bool:
    lists = any(isinstance(value, list) for value in column)
    return lists and (name in BY_CLIENT or name.startswith("client_"))


def _written(value: Any) -> Any:
    return display(value) if isinstance(value, bool) else value
