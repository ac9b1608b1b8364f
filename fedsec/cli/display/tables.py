"""Tables of the command line: they fit the terminal with words and names whole; elsewhere they are plain columns."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "print_note", "print_table"]

_GAP = 3
"""Characters between two columns."""
_INDENT = 2
_ROOM_FOR_TEXT = 36
"""Characters that text wants beside a name, else it stands below it."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        header: above it.
        style: of its cells.
        comfort: characters below which its text is hard to read; it may need fewer.
        optional: whether a narrow terminal does without it; of several the last goes first.
        right: whether its cells are numbers, that end below each other.
    """

    header: str
    style: str = ""
    comfort: int = 0
    optional: bool = False
    right: bool = False


def print_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, stack: bool = False
) -> None:
    """Print a table; columns without any content are left out.

    On a terminal, or where the environment says how many `COLUMNS` there are, it is as wide as that. A terminal that is
    too narrow gets fewer columns, and at last a block for each row. Elsewhere each row is one line, for those who
    search.

    Args:
        console: where to.
        title: above the table; none if it is empty.
        columns: what they are; the first one's cells are never broken.
        rows: cells as text.
        stack: put all columns but the first below each other, whatever the width.
    """
    places = [place for place in range(len(columns)) if place == 0 or any(row[place] for row in rows)]
    columns, rows = [columns[place] for place in places], [[row[place] for place in places] for row in rows]
    if not _laid_out(console):
        _print_plain(console, title, columns, rows)
        return
    if title:
        console.print(Text(title, "bold"))
    chosen, widths = ([], None) if stack else _fitting(columns, rows, console.width)
    if widths is not None:
        console.print(_drawn([columns[place] for place in chosen], [[row[i] for i in chosen] for row in rows], widths))
    else:
        _print_blocks(console, columns, rows, all_columns=stack)
    console.print()


def print_note(console: Console, text: str) -> None:
    """Print a line below a table, as wide as that."""
    console.print(Text(text, "dim"), soft_wrap=not _laid_out(console))


def _laid_out(console: Console) -> bool:
    """Whether lines have an end: on a terminal, or where somebody says how many `COLUMNS` there are."""
    return console.is_terminal or "COLUMNS" in os.environ


def _fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[int], list[int] | None]:
    """Which columns stand beside each other in a width, and how wide; no widths where not even the needed ones do."""
    chosen = list(range(len(columns)))
    while True:
        cells = [[columns[place].header, *(row[place] for row in rows)] for place in chosen]
        widths = _widths(cells, width - _GAP * (len(chosen) - 1))
        natural = [max(map(len, column)) for column in cells]
        if widths is not None and all(
            fitted >= min(columns[place].comfort, wide)
            for place, fitted, wide in zip(chosen, widths, natural, strict=True)
        ):
            return chosen, widths
        optional = [place for place in chosen if columns[place].optional]
        if not optional:
            return chosen, None
        chosen.remove(optional[-1])


def _widths(cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Widths of columns that break no word and no name; the widest give way first. None where there is no room."""
    natural = [max(map(len, column)) for column in cells]
    least = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in cells]
    least[0] = natural[0]
    if sum(least) > room:
        return None
    cap = max(natural)
    while sum(widths := [max(low, min(high, cap)) for low, high in zip(least, natural, strict=True)]) > room:
        cap -= 1
    for place, high in enumerate(natural):
        widths[place] += max(0, min(high - widths[place], room - sum(widths)))
    return widths


def _drawn(columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column.header, width=width, justify="right" if column.right else "left")
    for row in rows:
        table.add_row(*(Text(cell, column.style) for column, cell in zip(columns, row, strict=True)))
    return table


def _print_blocks(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, all_columns: bool
) -> None:
    """Each row's name, and beside or below it the rest, one below the other; numbers with their headers."""
    beside = max(len(row[0]) for row in rows) + _INDENT + _ROOM_FOR_TEXT <= console.width if rows else False
    table = Table.grid(padding=(0, _INDENT, 0, 0))
    table.add_column(no_wrap=beside)
    for row in rows:
        lines = [
            Text(f"{column.header.strip()} {cell}" if column.right else cell, column.style)
            for column, cell in list(zip(columns, row, strict=True))[1:]
            if cell and (all_columns or not column.optional)
        ]
        if beside:
            table.add_row(Text(row[0], "bold"), Group(*lines))
        else:
            table.add_row(Text(row[0], "bold"))
            table.add_row(Padding(Group(*lines), (0, 0, 0, _INDENT)))
    console.print(table)


def _print_plain(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.header for column in columns], *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    if title:
        console.print(Text(title), soft_wrap=True)
    for line in lines:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        ]
        console.print(Text("  ".join(cells).rstrip()), soft_wrap=True)
    console.print()
