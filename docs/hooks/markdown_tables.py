"""Markdown tables of cells that may hold anything. No hook itself: the hooks beside it use it."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; columns in which no row has anything are left out."""
    rows = [[_cell(text) for text in row] for row in rows]
    used = [column for column in range(len(head)) if any(row[column] for row in rows) or not column]
    return [_line([row[column] for column in used]) for row in (list(head), ["---"] * len(head), *rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """One line; bars outside of code would end the cell."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)
