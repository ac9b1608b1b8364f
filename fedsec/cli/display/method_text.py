"""What `fedsec show` prints of a method: its page, as text that fits the terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from fedsec.plugins.method_page import MethodPage
from fedsec.plugins.pages import page_of
from fedsec.plugins.signatures import REQUIRED, Parameter, as_yaml

__all__ = ["folded_code", "page_json", "print_page", "print_prose", "print_title"]

_INDENT = 2


def page_json(page: MethodPage) -> dict[str, Any]:
    """A page as plain data, for machines."""
    parts = {name: value for name, value in asdict(page).items() if name != "entry"}
    parts["paragraphs"] = [asdict(paragraph) for paragraph in page.paragraphs]
    parts["errors"] = [{"error": error, "when": when} for error, when in page.errors]
    derived = {
        "formula": page.formula,
        "assumptions": list(page.assumptions),
        "condition": page.condition,
        "arxiv": list(page.arxiv),
        "docs": page_of(page.kind, page.entry.interface),
    }
    return {"kind": page.kind, **page.entry.as_json(), **parts, **derived}


def print_page(page: MethodPage, console: Console | None = None) -> None:
    """Print a page; a part that the method's docstring lacks is left out.

    Args:
        page: of one method.
        console: where; standard output by default.
    """
    console = console or Console()
    plugin = f", from {page.entry.plugin}" if page.entry.plugin else ""
    print_title(console, page.name, page.kind)
    print_prose(console, f"{page.import_from}.{page.class_name}{plugin}", "dim")
    print_prose(console, page.summary)
    for paragraph in page.paragraphs:
        console.print()
        if paragraph.is_formula:
            print_prose(console, paragraph.text, "cyan", indent=2 * _INDENT)
        else:
            print_prose(console, paragraph.text)
    _print_part(console, "Place", [page.place[:1].upper() + page.place[1:]])
    _print_options(console, page.parameters)
    _print_part(console, "To know", page.traits)
    _print_part(console, "Refused", [when[:1].upper() + when[1:] for _, when in page.errors])
    _print_part(console, "Cost", [page.cost])
    _print_part(console, "Limits", [page.limits])
    papers = [paragraph.text.removeprefix("Reference: ") for paragraph in page.background]
    _print_part(console, "Papers", papers or [page.paper])
    _print_code(console, "In a scenario", page.scenario)
    _print_code(console, "In Python", page.python)
    console.print()
    print_prose(console, f"More: {page_of(page.kind, page.entry.interface)}; fedsec list {page.kind}s", "dim")


def print_title(console: Console, name: str, what: str) -> None:
    """The first line: a name, and what it names."""
    console.print(Text.assemble((name, "bold"), (f"  {what}", "dim")), soft_wrap=True)


def print_prose(console: Console, text: str, style: str = "", *, indent: int = 0) -> None:
    """Sentences: broken between words, also where there is no terminal, since they are for reading."""
    _print_indented(console, Text(text, style), indent)


def _print_indented(console: Console, text: Text, indent: int) -> None:
    for line in text.wrap(console, max(console.width - indent, 1)):
        line.rstrip()
        console.print(Text(" " * indent) + line, soft_wrap=True)


def _print_part(console: Console, heading: str, texts: Sequence[str]) -> None:
    texts = [text for text in texts if text]
    if texts:
        console.print()
        console.print(Text(heading, "bold"))
        for text in texts:
            print_prose(console, text, indent=_INDENT)


def _print_options(console: Console, parameters: Sequence[Parameter]) -> None:
    if not parameters:
        return
    console.print()
    console.print(Text("Options", "bold"))
    for parameter in parameters:
        required = parameter.default is REQUIRED
        default = "required" if required else f"{as_yaml(parameter.default)} by default"
        head = Text.assemble((parameter.name, "cyan"), f": {_type(parameter.annotation)}, {default}")
        _print_indented(console, head, _INDENT)
        if parameter.about:
            print_prose(console, parameter.about, "dim", indent=3 * _INDENT)


def _type(annotation: str) -> str:
    """A type as people say it: `a number or null` is for messages, here the choices of a Literal count."""
    parts = []
    for part in annotation.split(" | "):
        literal = part.startswith("Literal[") and part.endswith("]")
        parts.append(" | ".join(part[8:-1].replace("'", "").split(", ")) if literal else part.replace("None", "null"))
    return " | ".join(parts)


def _print_code(console: Console, heading: str, code: str) -> None:
    if not code:
        return
    console.print()
    console.print(Text(heading, "bold"))
    width = console.width - 2 * _INDENT if console.is_terminal else 10_000
    for line in code.rstrip().splitlines():
        for folded in folded_code(line, width):
            console.print(Text(" " * 2 * _INDENT + folded), soft_wrap=True)


def folded_code(line: str, width: int) -> list[str]:
    """A line of Python or YAML, broken within brackets where it is too long: it means the same.

    Args:
        line: of code; what cannot be broken so is left as it is.
        width: characters that a line has.
    """
    if len(line) <= width:
        return [line]
    depth, places = 0, []
    for place, letter in enumerate(line):
        depth += (letter in "([{") - (letter in ")]}")
        if depth > 0 and line[place : place + 2] == ", " and place < width:
            places.append(place + 1)
    if not places:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    rest = indent + line[places[-1] :].lstrip()
    return [line[: places[-1]], *(folded_code(rest, width) if len(rest) < len(line) else [rest])]
