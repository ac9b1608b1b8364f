"""What pages say of a method is what its source says, part by part, and nothing else."""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fedsec.plugins import registry
from fedsec.plugins.docstrings import parse_docstring
from fedsec.plugins.method_page import MethodPage, kinds_of, method_page
from fedsec.plugins.signatures import signature
from fedsec.plugins.sources import MethodSource, define, lineage

TEXT = """What it is.

y_i = x_i min(1, C / ||x_i||)

Withstands f Byzantine clients of n >= 2f + 1. Reports
gamma.

With z so and so,

    x = g_b^T g_W
      / (g_b^T g_b)

Args:
    size: how many; see
        there.
    way: which.

Raises:
    InputError: too many.

Cost:
    n d.

Limits:
    One thing.

    Another
    thing.

Reference: Somebody, 2020, arXiv:2001.02610;
Another, 2021, arXiv:2110.09074.

And an afterthought.
"""
PLUGIN = '''
"""A module."""
from fedsec.attacks import SignFlip
from fedsec.defense import CoordinateRule

class Bare(CoordinateRule):
    """A rule."""

    draws = True

    def __init__(self, num_byzantine: int, way: str = "x"):
        self.detects = way == "y"

class Outer:
    class Heir(SignFlip):
        """Adds nothing."""
'''


def test_a_docstring_comes_apart() -> None:
    parts = parse_docstring(TEXT)
    assert parts.summary == "What it is."
    assert parts.formula == "y_i = x_i min(1, C / ||x_i||)\n\nx = g_b^T g_W\n  / (g_b^T g_b)"
    assert [paragraph.text for paragraph in parts.paragraphs if not paragraph.is_formula] == [
        "Withstands f Byzantine clients of n >= 2f + 1. Reports gamma.",
        "With z so and so,",
        "And an afterthought.",
    ]
    assert parts.items("args") == (("size", "how many; see there."), ("way", "which."))
    assert parts.items("raises") == (("InputError", "too many."),)
    assert parts.prose("cost") == "n d."
    assert parts.prose("limits") == "One thing.\n\nAnother thing."
    assert parts.reference == "Somebody, 2020, arXiv:2001.02610; Another, 2021, arXiv:2110.09074."
    assert parts.arxiv == ("2001.02610", "2110.09074")


@pytest.mark.parametrize("text", ["", "One line.", "One line.\n\nArgs:\n", "Args:\n    x: y"])
def test_parts_that_are_not_there_are_empty(text: str) -> None:
    parts = parse_docstring(text)
    assert not any((parts.paragraphs, parts.formula, parts.reference, parts.arxiv, parts.prose("cost")))
    assert parts.items("raises") == ()


def test_a_list_keeps_its_lines() -> None:
    page = method_page("attack", "feature_poison")
    assert [line.partition(":")[0] for line in page.explanation[0].splitlines()] == ["noise", "shuffle", "scale"]
    numbered = method_page("defense", "knowledge_screening").background[1]
    assert not numbered.is_formula
    assert [line[:3] for line in numbered.text.splitlines()] == ["1. ", "2. ", "3. "]


def test_a_rule() -> None:
    page = method_page("defense", "krum")
    assert page.summary.startswith("The update with the smallest sum")
    assert page.formula.startswith("score_i = sum of ||x_i - x_j||^2")
    assert page.condition == "n >= 2f + 3"
    assert page.assumptions == ("Withstands f Byzantine clients of n >= 2f + 3.",)
    assert page.arxiv == ("1703.02757",)
    assert page.source == "fedsec.defenses.krum"
    assert [(option.name, option.about[:2]) for option in page.parameters] == [("num_byzantine", "f,")]
    assert page.errors == (("InputError", "it is negative, or no whole number."),)
    assert "Blanchard, El Mhamdi" in page.background[-1].text
    assert "It says which clients it takes for Byzantine." in page.traits
    assert "rule that combines" in page.place


def test_options_of_bases_are_told() -> None:
    options = {option.name: option.about for option in method_page("attack", "neurotoxin").parameters}
    assert options["poisoned_fraction"]
    assert options["pattern"]
    assert options["avoided_fraction"]


def test_a_trait_that_options_change_is_said_to_depend_on_them() -> None:
    assert any(sentence.startswith("Depending on its options: it draws") for sentence in _page("flame").traits)
    assert "It draws random numbers: a call in Python gives it a `generator`." in _page("dnc").traits
    assert not any("draws" in sentence for sentence in _page("median").traits)


def test_kinds_of_a_name() -> None:
    assert kinds_of("krum") == ("defense",)
    assert kinds_of("fedavg") == ("algorithm",)
    assert kinds_of("no_such") == ()


@pytest.mark.parametrize("kind", list(registry.KINDS))
def test_every_kind_has_pages(kind: str) -> None:
    for name in registry.entries(kind):
        page = method_page(kind, name)
        assert page.summary
        assert page.name == name
        assert page.class_name


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], MethodPage]]:
    """Pages of classes of a package that nobody has imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "somebodys.py").write_text(PLUGIN)
    caches = (signature, define, lineage, MethodSource.of, registry._plugins)

    def page(kind: str, name: str) -> MethodPage:
        group = registry.KINDS[kind].group
        point = EntryPoint("mine", f"somebodys:{name}", group)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == point.group else [])
        registry._plugins.cache_clear()
        return method_page(kind, "mine")

    for cached in caches:
        cached.cache_clear()
    yield page
    for cached in caches:
        cached.cache_clear()


def test_a_plugin_that_says_little(plugins: Callable[[str, str], MethodPage]) -> None:
    page = plugins("defense", "Bare")
    assert page.summary == "A rule."
    assert page.import_from == "somebodys"
    assert "somebodys" not in sys.modules
    assert not any((page.formula, page.explanation, page.errors, page.cost, page.limits, page.paper, page.condition))
    assert "defense: {name: mine, num_byzantine: 2}" in page.scenario
    assert "from somebodys import Bare" in page.python
    assert "Bare(num_byzantine=2).aggregate" in page.python
    assert "Depending on its options: it says which clients it takes for Byzantine." in page.traits


def test_a_plugin_that_inherits_everything(plugins: Callable[[str, str], MethodPage]) -> None:
    page = plugins("attack", "Outer.Heir")
    assert [option.name for option in page.parameters] == ["scale"]
    assert page.parameters[0].about
    assert "from somebodys import Outer\n" in page.python
    assert "Outer.Heir().craft" in page.python


def _page(name: str) -> MethodPage:
    return method_page("defense", name)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        (
            "attack",
            "sign_flip",
            "It knows what its own clients would have sent honestly, and no other client's update.",
        ),
        ("attack", "mimic", "It knows every honest update of the round."),
        ("attack", "alie", "What it knows of honest updates is an option: `knowledge`, omniscient by default."),
        ("defense", "mean", "The clients' weights count."),
        ("defense", "krum", "The clients' weights do not count."),
        ("defense", "geometric_median", "The clients' weights count only if `weighted`."),
    ],
)
def test_sentences_say_what_is_known_and_what_counts(kind: str, name: str, sentence: str) -> None:
    assert sentence in method_page(kind, name).traits
