"""Drawings within a page: matplotlib's SVG, in the page's own colors, light or dark."""

import io
import re
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

_INK = "#000000"
_HEADER = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_SIZE = re.compile(r'(<svg\b[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"')


def inline_svg(figure: "Figure", name: str) -> Markup:
    """A figure as an SVG element that takes the page's ink for its own and whose letters are text.

    Args:
        figure: of matplotlib; its background becomes transparent, its black the page's ink.
        name: of letters, digits and hyphens; unlike that of every other drawing of the page, since names within
            drawings begin with it.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = _METADATA.sub("", _HEADER.sub("", file.getvalue(), count=1))
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'((?:xlink:)?href="|url\()#', rf"\g<1>#{name}-", svg)
    svg = _SIZE.sub(r"\1\2", svg, count=1)
    svg = svg.replace(
        "<svg ", '<svg aria-hidden="true" focusable="false" style="color: inherit; fill: currentColor" ', 1
    )
    return Markup(svg.replace(_INK, "currentColor"))
