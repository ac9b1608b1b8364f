"""Drawings within a page: matplotlib's SVG, in the page's own colors, light or dark."""

import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from fedsec.report.figures import ALWAYS_BLACK, ALWAYS_WHITE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_SHADE = re.compile(r"#([0-9a-f]{2})\1\1\b", re.IGNORECASE)
_FONT = re.compile(r"'DejaVu Sans',[^;]*")
_NAMED = re.compile(r"(?:href=\"|url\()#([^\")]+)")
_DIGITS = re.compile(r"(-?\d+\.\d\d)\d+")
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML has no room for."""
_NARROWEST = "36rem"
"""Drawings are not shrunk below this, at which letters can be read still: phones scroll."""


def inline_svg(figure: "Figure", name: str) -> Markup:
    """A figure as an SVG element that takes the page's ink for its own and whose letters are text.

    Args:
        figure: of matplotlib; its background becomes transparent, its black, grays and white the page's ink, mixtures
            and paper, but for `ALWAYS_BLACK` and `ALWAYS_WHITE`.
        name: of letters, digits and hyphens; unlike that of every other drawing of the page, since names within
            drawings begin with it.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's browser has fonts of its own
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    written = _ILLEGAL.sub("\ufffd", file.getvalue())
    root, named = ElementTree.fromstring(written), set(_NAMED.findall(written))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
        if parent.get("id") not in named:
            parent.attrib.pop("id", None)
        parent.attrib = _adapted(parent.attrib, name)
    width = root.attrib.pop("width")
    del root.attrib["height"]
    root.attrib |= {
        "aria-hidden": "true",
        "focusable": "false",
        "style": f"width: {width}; min-width: min({_NARROWEST}, {width}); color: inherit; fill: currentColor",
    }
    ElementTree.register_namespace("", _SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adapted(attributes: Mapping[str, str], name: str) -> dict[str, str]:
    """An element's attributes with the page's colors and font, names within reach of no other drawing, fewer digits."""
    adapted = {}
    for key, value in attributes.items():
        if key == "id":
            value = f"{name}-{value}"
        elif key == _LINK:
            key, value = "href", f"#{name}-{value[1:]}" if value.startswith("#") else value
        elif key == "style":
            value = _FONT.sub("system-ui, sans-serif", _SHADE.sub(_mixture, value))
        elif key in ("d", "x", "y", "points"):
            value = _DIGITS.sub(r"\1", value)
        adapted[key] = value.replace("url(#", f"url(#{name}-")
    return adapted


def _mixture(shade: re.Match[str]) -> str:
    """A shade of gray, from black to white, as the same from the page's ink to its paper."""
    if shade[0] in (ALWAYS_BLACK, ALWAYS_WHITE):
        return shade[0]
    white = int(shade[1], 16) / 255
    pure = {0.0: "currentColor", 1.0: "var(--paper)"}
    return pure.get(white, f"color-mix(in srgb, var(--paper) {white:.0%}, currentColor)")
