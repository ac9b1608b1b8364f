"""Sections become one HTML file: styles, script and pictures inside, nothing loaded from anywhere."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fedsec import __version__
from fedsec.report.page.parts import PageSection, Part

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Page", "fragment", "render"]

_SIGNS = re.compile(r"(?<=\w)([(/,_=])(?=\w)")
_BREAK_AFTER = {sign: Markup(sign + "<wbr>") for sign in "(/,"}
_BREAK_AFTER |= {sign: Markup(f'{sign}<wbr class="narrow">') for sign in "_="}


@dataclass(frozen=True)
class Page:
    """A page.

    Args:
        title: of it.
        subtitle: one line on what it is about.
        sections: from top to bottom.
    """

    title: str
    subtitle: str
    sections: Sequence[PageSection]


def render(page: Page) -> str:
    """The page as HTML, whatever its texts hold."""
    style, script = (Markup(_template(name)) for name in ("style.css", "page.js"))  # as they are: not templates
    template = _environment().get_template("page.html.jinja")
    html = template.render(page=page, version=__version__, style=style, script=script)
    return html.encode("utf-8", "backslashreplace").decode()  # names of files may be no text


def fragment(parts: Sequence[Part]) -> str:
    """Parts alone, without a page around them and without its styles, for whoever has a page already."""
    module: Any = _environment().get_template("parts.html.jinja").module
    return "".join(map(module.show, parts))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = _base64
    environment.filters["breakable"] = _breakable
    environment.filters["sha256"] = lambda text: _base64(hashlib.sha256(text.encode()).digest())
    return environment


def _template(name: str) -> str:
    return (files("fedsec.report.page") / "templates" / name).read_text(encoding="utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _breakable(text: str) -> Markup:
    """Text whose long names go on in the next line where a reader would break them, on phones after more signs."""
    return Markup("").join(_BREAK_AFTER.get(piece, piece) for piece in _SIGNS.split(text))
