"""Sections become one HTML file: styles, script and pictures inside, nothing loaded from anywhere."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fedsec import __version__
from fedsec.report.page.parts import PageSection

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Page", "render"]


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
    return _environment().get_template("page.html.jinja").render(page=page, version=__version__)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("fedsec.report.page") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return environment
