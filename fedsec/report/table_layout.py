"""How the tables of a run are laid out: columns as wide as their contents, readings that need little room."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedsec.report.summary import ATTACK, DEFENSE, INVERSION

_GAP = 3  # characters between columns
_PART = re.compile(r"(?:[^_=.,/-]|\.(?=\d))+(?:[_=,/-]|\.(?!\d))*|[_=.,/-]+")
"""A part of a word, up to a sign that joins it to the next; a number is one."""
_MOST_LINES = 4
"""Where a name would take more lines than this beyond its own, it stands elsewhere."""
_NARROWEST_NAME = 8  # characters of a column whose names are broken


@dataclass(frozen=True)
class Reading:
    """A table cell: value and an aside beside each other where the column is wide enough, else one below the other.

    Args:
        value: what was measured.
        aside: what to see it against, in parentheses.
        note: below, where something is amiss.
        style: of the value.
    """

    value: str
    aside: str = ""
    note: str = ""
    style: str = ""

    @property
    def narrowest(self) -> int:
        """The width that breaks no word."""
        return max(len(self.value), len(self.aside), *(len(word) for word in self.note.split()), 0)

    @property
    def widest(self) -> int:
        """The width that breaks no line."""
        side_by_side = len(self.value) + 1 + len(self.aside) if self.aside else len(self.value)
        return max(side_by_side, len(self.note))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.narrowest, self.widest)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fits = len(self.value) + 1 + len(self.aside) <= options.max_width
        line = Text(self.value, style=self.style, no_wrap=True)
        if self.aside.strip():
            line.append(" " if fits else "\n" + " " * (len(self.value) - len(self.aside)))
            line.append(self.aside, style="not bold dim")
        yield line
        if self.note:
            yield Text(self.note, style="bold red")


class CaptionedTable(Table):
    """A table whose title and caption are as wide as the terminal, however narrow the table is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title, caption = self.title, self.caption
        self.title = self.caption = None
        try:
            if title:
                yield Text(str(title), "table.title")
            yield from super().__rich_console__(console, options)
            if caption:
                yield caption if isinstance(caption, Text) else Text(str(caption), "table.caption")
        finally:
            self.title, self.caption = title, caption


@dataclass(frozen=True)
class Layout:
    """Columns of equal length, by header.

    Args:
        headers: above the columns; their lines stand below each other.
        columns: the cells of each.
        keys: how many of them lead and name the row.
        apart: whether a blank line stands between rows.
    """

    headers: tuple[str, ...]
    columns: tuple[Sequence[str | Reading], ...]
    keys: int
    apart: bool = False

    @property
    def narrowest(self) -> int:
        """The width that breaks no word."""
        return sum(narrow for narrow, _ in self._ranges()) + _GAP * (len(self.headers) - 1)

    def widths(self, width: int) -> list[int]:
        """As wide as the contents, or narrowed where that saves most; if need be, names are broken before numbers."""
        ranges = self._ranges()
        widths = [natural for _, natural in ranges]
        excess = sum(widths) + _GAP * (len(widths) - 1) - width
        slack = [natural - narrow for narrow, natural in ranges]
        for column in sorted(range(len(widths)), key=slack.__getitem__, reverse=True):
            saved = max(0, min(excess, slack[column]))
            widths[column] -= saved
            excess -= saved
        for column in sorted(range(self.keys), key=widths.__getitem__, reverse=True):
            saved = max(0, min(excess, widths[column] - _NARROWEST_NAME))
            widths[column] -= saved
            excess -= saved
        return widths

    def stacked(self) -> "Layout":
        """The same with all that names a row in one column, below each other."""
        if self.keys < 2:
            return self
        names = self._names("\n")
        return Layout(("cell", *self.headers[self.keys :]), (names, *self.columns[self.keys :]), 1, apart=True)

    def numbered(self) -> tuple["Layout", list[str]]:
        """The same with numbers in place of what names the rows, and the names on a line each, to stand below."""
        names = self._names(", ")
        numbers = [str(place) for place in range(1, len(names) + 1)]
        layout = Layout(("cell", *self.headers[self.keys :]), (numbers, *self.columns[self.keys :]), 1)
        return layout, [f"{number}: {' '.join(name.split())}" for number, name in zip(numbers, names, strict=True)]

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def lines(self, row: int) -> int:
        """How many lines a row's names take where none is broken, with the blank one that sets it apart."""
        return max((str(column[row]).count("\n") + 1 for column in self.columns[: self.keys]), default=1) + self.apart

    def only(self, rows: Sequence[int]) -> "Layout":
        """The same with some of the rows, by their places."""
        return replace(self, columns=tuple([column[row] for row in rows] for column in self.columns))

    def draw_blocks(self, title: str, headings: Sequence[str], caption: Text, width: int) -> Group:
        """Tables with equal columns below each other, ready to print.

        Args:
            title: above the first.
            headings: of each row; consecutive ones that are equal make a table, below that heading.
            caption: below the last.
            width: columns of the terminal.
        """
        starts = [row for row, heading in enumerate(headings) if row == 0 or heading != headings[row - 1]]
        ends = [*starts[1:], len(headings)]
        tables: list[Table | Text] = []
        for start, end in zip(starts, ends, strict=True):
            above = "\n".join(filter(None, (title if start == 0 else "", headings[start])))
            below = caption if end == len(headings) else Text()
            tables += [Text()] if tables else []
            tables.append(self.only(range(start, end)).draw(above, below, width, self.widths(width)))
        return Group(*tables)

    def draw(self, title: str, caption: Text, width: int, widths: Sequence[int] | None = None) -> Table:
        """A table ready to print. Names that would be hard to read stand in one column, or below the table.

        Args:
            title: above it.
            caption: below it.
            width: columns of the terminal.
            widths: of the table's columns; by default as their contents need them.
        """
        if widths is None and not self.is_readable(width):
            stacked = self.stacked()
            if stacked is not self and stacked.is_readable(width):
                return stacked.draw(title, caption, width)
            numbered, names = self.numbered()
            below = Text("".join(f"{name}\n" for name in names)).append_text(caption)
            return numbered.draw(title, below, width, numbered.widths(width))
        drawn = CaptionedTable(title=title, caption=caption)
        drawn.box, drawn.show_edge, drawn.pad_edge = box.SIMPLE_HEAD, False, False
        widths = self.widths(width) if widths is None else widths
        for header, columns in zip(self.headers, widths, strict=True):
            drawn.add_column(Text(_fitted(header, columns)), overflow="fold", width=columns)
        above: tuple[str | Reading, ...] = ()
        for row in zip(*self.columns, strict=True):
            # A name that stands above already is left out, and a new one to the left of the last starts a block.
            same = next((i for i in range(self.keys) if row[: i + 1] != above[: i + 1]), self.keys)
            if above and (self.apart or same < self.keys - 1):
                drawn.add_section()
            cells = ["" if i < same else cell for i, cell in enumerate(row)]
            fitted = zip(cells, widths, strict=True)
            drawn.add_row(
                *(Text(_fitted(cell, columns)) if isinstance(cell, str) else cell for cell, columns in fitted)
            )
            above = row
        return drawn

    def is_readable(self, width: int) -> bool:
        """Whether names are broken at signs that join words only, and into a few lines at most."""
        for columns, column in zip(self.widths(width)[: self.keys], self.columns, strict=False):
            for cell in map(str, column):
                parts = [part for word in _breakable(cell).split() for part in _PART.findall(word)]
                if max(map(len, parts), default=0) > columns:
                    return False
                if sum(-(-len(line) // columns) - 1 for line in cell.splitlines() if line) > _MOST_LINES:
                    return False
        return True

    def _names(self, separator: str) -> list[str]:
        """What names each row, in one text."""
        axes = [_axis(header) for header in self.headers[: self.keys]]
        return [
            separator.join(_named(axis, cell) for axis, cell in zip(axes, row, strict=True) if cell)
            for row in zip(*self.columns[: self.keys], strict=True)
        ]

    def _ranges(self) -> list[tuple[int, int]]:
        columns = zip(self.headers, self.columns, strict=True)
        ranges = [[_range(cell) for cell in (header, *column)] for header, column in columns]
        return [(max(narrow for narrow, _ in column), max(wide for _, wide in column)) for column in ranges]


def headers(axes: Iterable[str]) -> list[str]:
    """The names of axes as headers, a part of a key path on each line."""
    return [axis.replace(".", ".\n") for axis in axes]


def _axis(header: str) -> str:
    """The last part of an axis's key path that says something: of `attack.name` the attack."""
    return header.replace("\n", "").removesuffix(".name").rpartition(".")[2]


def _named(axis: str, value: str | Reading) -> str:
    """A value on an axis; attacks, inversions and defenses are known by their names."""
    return f"{value}" if axis in (ATTACK, INVERSION, DEFENSE) else f"{axis}={value}"


def _breakable(text: str) -> str:
    """`text` with a place where a narrow column may break it: before its options."""
    return re.sub(r"(?<=\S)\(", " (", text, count=1)


def _fitted(text: str, width: int) -> str:
    """`text` with breaks in words that are too long for a column, after a sign that joins words if there is one."""
    return "\n".join(
        " ".join(_parted(word, width) for word in line.split(" ")) for line in _breakable(text).split("\n")
    )


def _parted(word: str, width: int) -> str:
    if len(word) <= width:
        return word
    lines = [""]
    for part in _PART.findall(word):
        if len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(filter(None, lines))


def _range(cell: str | Reading) -> tuple[int, int]:
    """The narrowest width that breaks no word, and the width that breaks no line."""
    if isinstance(cell, Reading):
        return cell.narrowest, cell.widest
    text = _breakable(cell)
    return max(map(len, text.split()), default=0), max(map(len, text.splitlines()), default=0)
