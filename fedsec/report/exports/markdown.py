"""Tables in Markdown, as GitHub and most sites of documentation show them."""

import re
from collections.abc import Sequence

from fedsec.report.exports.paper_table import PaperCell, PaperTable

__all__ = ["escaped", "to_markdown"]

_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")


def to_markdown(tables: Sequence[PaperTable]) -> str:
    """Tables, each below what it shows.

    Args:
        tables: from top to bottom.
    """
    return "\n".join(_table(table) for table in tables)


def escaped(text: str) -> str:
    """Text that stays what it is: on one line, and no sign of it means anything."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))


def _table(table: PaperTable) -> str:
    caption = "; ".join(escaped(sentence) for sentence in (*table.caption, *table.notes))
    rule = [":---"] * len(table.keys) + ["---:"] * len(table.headers)
    lines = [_line([escaped(header) for header in (*table.keys, *table.headers)]), _line(rule)]
    lines += [_line([*map(escaped, key), *map(_cell, entries)]) for key, entries in table.rows]
    return "\n".join([f"{caption}.", "", *lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(entry: PaperCell) -> str:
    value = f"**{escaped(entry.value)}**" if entry.best else escaped(entry.value)
    return value if entry.interval is None else f"{value} [{entry.interval[0]} to {entry.interval[1]}]"
