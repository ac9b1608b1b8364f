"""Errors say where to read on: pages that are there, commands that exist."""

from pathlib import Path

import pytest

from fedsec.errors import InputError, ScenarioError
from fedsec.plugins import registry
from fedsec.plugins.pages import PAGES, SCENARIOS, page_of
from fedsec.scenario import load_scenario

ROOT = Path(__file__).parents[2]


def test_every_kind_has_a_page_that_is_there() -> None:
    assert PAGES.keys() == registry.KINDS.keys()
    pages = {SCENARIOS, *PAGES.values()}
    for kind in registry.KINDS:
        pages |= {page_of(kind, entry.interface) for entry in registry.entries(kind).values()}
    assert all((ROOT / page).is_file() for page in pages)


@pytest.mark.parametrize("kind", ["attack", "defense", "inversion", "inference"])
def test_the_page_of_a_method_is_about_it(kind: str) -> None:
    """The kind's own page, or the one of its interface, names at least one method of each interface."""
    texts = {}
    for name, entry in registry.entries(kind).items():
        page = page_of(kind, entry.interface)
        texts.setdefault((entry.interface, page), []).append(name)
    for (interface, page), names in texts.items():
        text = (ROOT / page).read_text()
        assert any(name in text for name in names), f"{page} names no {interface}"


def test_an_unknown_name_says_where_they_are_listed() -> None:
    with pytest.raises(InputError, match=r"did you mean 'alie'\?.*; see fedsec list attacks, docs/attacks\.md$"):
        registry.entry("attack", "alei")


def test_an_unknown_option_says_where_the_method_is_explained() -> None:
    with pytest.raises(InputError, match=r"did you mean 'max_norm'\?\); see fedsec show clip, docs/privacy\.md"):
        registry.check("defense", "clip", {"max_nrom": 1.0})


def test_an_unknown_key_of_a_scenario_says_where_they_are_explained() -> None:
    with pytest.raises(ScenarioError, match=r"modle: unknown key \(did you mean 'model'\?\); see docs/design\.md"):
        load_scenario({"dataset": "digits", "modle": "mlp"})
