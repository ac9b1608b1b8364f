"""A page shows text as text, whatever it holds, and needs nothing beside it."""

from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from fedsec.report.figures import plain
from fedsec.report.page import (
    Code,
    DataTable,
    Drawing,
    Folded,
    Heading,
    ImageGrid,
    Page,
    PageSection,
    Paragraph,
    Photo,
    render,
)
from fedsec.report.page.parts import Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg

HOSTILE = "<script>alert('1')</script><img src=x onerror=alert(2)>\"'&"
PHOTO = Photo(b"\x89PNG", HOSTILE, HOSTILE)
PARTS: list[Part] = [
    Paragraph(HOSTILE, "note"),
    Heading(HOSTILE),
    Code(HOSTILE, HOSTILE),
    DataTable(
        [TableColumn(HOSTILE), TableColumn("n", numeric=True)],
        [[TableCell(HOSTILE, HOSTILE), TableCell("1", 1.0)]],
        HOSTILE,
    ),
    Drawing(Markup("<svg></svg>"), HOSTILE, HOSTILE),
    PHOTO,
    ImageGrid([(HOSTILE, [PHOTO, PHOTO])], HOSTILE),
    Folded(HOSTILE, [Paragraph(HOSTILE)]),
]


class Elements(HTMLParser):
    """Counts elements by name, and keeps all text and attributes' values."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.texts: list[str] = []
        self.values: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(*parts: Part) -> Page:
    return Page(HOSTILE, HOSTILE, [PageSection("one", HOSTILE, parts)])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.kind)
def test_hostile_text_stays_text(part: Part) -> None:
    elements = Elements(render(page_of(part)))
    assert elements.names.count("script") == 1, "the page's own"
    assert elements.names.count("img") == {"photo": 1, "image_grid": 2}.get(part.kind, 0)
    assert any(HOSTILE in text for text in [*elements.texts, *elements.values])


def test_nothing_is_loaded_from_anywhere() -> None:
    values = Elements(render(page_of(*PARTS))).values
    assert not [value for value in values if "//" in value]


def test_names_within_drawings_of_one_page_differ() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2], marker="o")
    drawings = [str(inline_svg(figure, name)) for name in ("one", "two")]
    assert drawings[0].count('id="one-') > 3
    assert 'id="one-' not in drawings[1]
    assert "href=&#34;" not in drawings[0]
    assert 'href="#one-' in drawings[0]
    assert "<script" not in drawings[0]


def test_letters_of_a_drawing_are_escaped() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().set_title("<b>&amp;")
    assert "&lt;b&gt;&amp;amp;" in inline_svg(figure, "one")


@pytest.mark.parametrize("name", ["\x1b[31m", "a\x00b", "\udcff", "\uffff", "$x^$", "tab\tnew\nline"])
def test_names_that_no_font_and_no_file_can_hold_make_no_drawing_fail(name: str) -> None:
    figure = Figure()
    figure.subplots().set_title(plain(name))
    svg = inline_svg(figure, "test")
    page = Page(name, name, [PageSection("all", name, [Paragraph(name), Drawing(svg, name)])])
    assert render(page).encode().startswith(b"<!doctype html>")
