"""What sections of a page are made of, as data. Text is text: whatever it holds, the template escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = [
    "TableCell",
    "Code",
    "TableColumn",
    "DataTable",
    "Drawing",
    "Folded",
    "Heading",
    "ImageGrid",
    "Paragraph",
    "Part",
    "Photo",
    "PageSection",
]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Args:
        text: of it.
        tone: `plain`, or what kind of news it is: `good`, `bad`, `note`.
    """

    text: str
    tone: str = "plain"
    kind: str = "paragraph"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: str = "heading"


@dataclass(frozen=True)
class Code:
    """Text that is shown letter by letter: a file, a command.

    Args:
        text: of it.
        caption: what it is.
        copied: whether readers will want to copy it.
    """

    text: str
    caption: str = ""
    copied: bool = True
    kind: str = "code"


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Args:
        title: at its head.
        numeric: whether it holds numbers, which stand to the right.
    """

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class TableCell:
    """A cell of a table.

    Args:
        text: as it is read.
        order: what rows are sorted by, where it is not the text.
        tone: `plain`, `good` or `bad`; never the only sign of what it says.
        remark: more about it, in small letters below.
    """

    text: str
    order: float | str | None = None
    tone: str = "plain"
    remark: str = ""


@dataclass(frozen=True)
class DataTable:
    """A table that readers can sort.

    Args:
        columns: from left to right.
        rows: a cell for each column.
        caption: what it shows, and how to read its signs.
        row_headers: how many columns at the left name the row.
    """

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[TableCell]]
    caption: str
    row_headers: int = 1
    kind: str = "table"


@dataclass(frozen=True)
class Drawing:
    """A drawing of lines and text.

    Args:
        svg: the drawing, made by `fedsec.report.page.svg`; nothing else may be marked as safe.
        description: what it shows, for those who cannot see it.
        caption: below it.
    """

    svg: Markup
    description: str
    caption: str = ""
    kind: str = "drawing"


@dataclass(frozen=True)
class Photo:
    """An image of pixels.

    Args:
        png: the content of a PNG file.
        description: what it shows, for those who cannot see it.
        caption: below it.
    """

    png: bytes
    description: str
    caption: str = ""
    kind: str = "photo"


@dataclass(frozen=True)
class ImageGrid:
    """Images side by side, in rows.

    Args:
        rows: the name of a row, and its images.
        caption: below it.
    """

    rows: Sequence[tuple[str, Sequence[Photo]]]
    caption: str = ""
    kind: str = "image_grid"


@dataclass(frozen=True)
class Folded:
    """Parts that are shown when asked for.

    Args:
        summary: what is inside.
        parts: of it.
    """

    summary: str
    parts: Sequence["Part"]
    kind: str = "folded"


Part = Paragraph | Heading | Code | DataTable | Drawing | Photo | ImageGrid | Folded


@dataclass(frozen=True)
class PageSection:
    """A section of a page.

    Args:
        anchor: names it in the address, in small letters and hyphens.
        title: at its head.
        parts: from top to bottom.
    """

    anchor: str
    title: str
    parts: Sequence[Part]
