"""The convention of methods' docstrings: what every attack, inversion and defense says, and in which order."""

import ast
import re

import pytest

from fedsec.plugins.docstrings import parse_docstring
from fedsec.plugins.example_scenarios import example_options
from fedsec.plugins.method_page import method_page
from fedsec.plugins.registry import entries, entry
from fedsec.plugins.sources import define

NAMES = [
    (kind, name) for kind in ("attack", "inversion", "inference", "defense") for name in entries(kind, plugins=False)
]
ORDER = ["Args", "Attributes", "Raises", "Cost", "Limits", "Example", "Reference"]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_method_says_what_it_costs_what_stops_it_and_whose_it_is(kind: str, name: str) -> None:
    page = method_page(kind, name)
    missing = [part for part in ("summary", "cost", "limits", "paper", "traits", "place") if not getattr(page, part)]
    if kind != "attack":
        missing = [part for part in missing if part != "traits"]
    assert not missing, f"{kind} {name} lacks {missing}; see CONTRIBUTING.md"
    unexplained = [option.name for option in page.parameters if not option.about]
    assert not unexplained, f"{kind} {name} does not explain {unexplained} under Args"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_its_sections_stand_in_one_order(kind: str, name: str) -> None:
    text = ast.get_docstring(define(*entry(kind, name).path).node) or ""
    headings = re.findall(r"^([A-Z]\w+):(?:$| )", text, re.MULTILINE)
    headings = [heading for heading in headings if heading in ORDER]
    assert headings == sorted(headings, key=ORDER.index)
    assert set(parse_docstring(text).sections) <= {heading.lower() for heading in ORDER}
    if example := parse_docstring(text).sections.get("example"):
        assert example_options(entry(kind, name), example), f"the Example of {name} names no options of it"
