"""What a method is follows from its bases, however it inherits from them; no module is imported to tell."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.signatures import signature
from fedsec.plugins.sources import MethodSource, define, lineage
from fedsec.scenario import CellConfig

METHODS = '''
"""Methods that inherit in every way that people use."""

from __future__ import annotations

import dataclasses
import fedsec.threat.poisoning as poisoning
import fedsec.defense
import heirs_of.bases
from dataclasses import dataclass
from fedsec.attacks import InvertingGradients as Ours, LabelFlip
from fedsec.defenses import ClipUpdate
from .bases import *
from .bases import Middle as Aliased
from . import bases as relative

try:
    from heirs_of.nowhere import Missing
except ImportError:
    class Missing:
        """What stands in for it."""

class Mixin:
    """Adds nothing of fedsec."""
    note = "a mixin"

class MyInversion(Ours):
    """Ours, with another default."""

class MixedIn(Mixin, ClipUpdate):
    """A mixin first."""

class Several(Mixin, Missing, Aliased):
    """An intermediate base under an alias."""

class Starred(Middle):
    """An intermediate base that came with a star."""

class Dotted(heirs_of.bases.Middle):
    """Its base is written out."""

class Relative(relative.Middle):
    """Its base is an attribute of a module."""

class Module(poisoning.UpdatePoisoning):
    """Its base is an attribute of a module under an alias."""

class Rule(fedsec.defense.CoordinateRule):
    """A rule by way of an intermediate class of fedsec."""

class Outer:
    """Holds another."""
    class Inner(LabelFlip):
        """Nested."""

Renamed = Relative

class Diamond(Several, Dotted):
    """Twice the same base."""

class HandsOn(LabelFlip):
    """Adds an option and hands the rest on.

    Args:
        strength: how much.
    """

    def __init__(self, strength: float = 1.0, **options) -> None:
        super().__init__(**options)

@dataclass(frozen=True)
class Record(Mixin):
    """A record.

    Args:
        size: how many.
    """

    size: int = 3
    hidden: int = dataclasses.field(default=0, init=False)

class PlainHeir(Record):
    """Inherits a record's fields."""

@dataclass(frozen=True)
class LongerRecord(PlainHeir):
    """A longer record."""

    more: bool = True

class Nothing(Mixin):
    """No method at all."""

class Pretender(Mixin):
    """Says that it has a role, and has none."""
    role = "data"

def function():
    """No class."""
'''
BASES = '''
from fedsec.threat import DataPoisoning
class Middle(DataPoisoning):
    """Between."""
    role = "updates"
    def __init__(self, where: int, how: str = "x") -> None: ...
'''
INTERFACES = {
    "MyInversion": ("inversion", "Inversion", "updates"),
    "MixedIn": ("defense", "UpdateTransform", "update"),
    "Several": ("attack", "DataPoisoning", "data"),
    "Starred": ("attack", "DataPoisoning", "data"),
    "Dotted": ("attack", "DataPoisoning", "data"),
    "Relative": ("attack", "DataPoisoning", "data"),
    "Module": ("attack", "UpdatePoisoning", "updates"),
    "Rule": ("defense", "Aggregator", "rule"),
    "Outer.Inner": ("attack", "DataPoisoning", "data"),
    "Renamed": ("attack", "DataPoisoning", "data"),
    "Diamond": ("attack", "DataPoisoning", "data"),
    "HandsOn": ("attack", "DataPoisoning", "data"),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes a package that nobody has imported, and publishes classes of it as entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "heirs_of"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "methods.py").write_text(METHODS)
    (package / "bases.py").write_text(BASES)

    def publish(kind: str, *classes: str) -> None:
        group = registry.KINDS[kind].group
        points = [EntryPoint(f"my_{name.lower()}", f"heirs_of.methods:{name}", group) for name in classes]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [p for p in points if p.group == group])
        registry._plugins.cache_clear()

    caches = (signature, define, lineage, MethodSource.of, registry._plugins)
    for cached in caches:
        cached.cache_clear()
    yield publish
    for name in [name for name in sys.modules if name.startswith("heirs_of")]:
        del sys.modules[name]
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("name", INTERFACES)
def test_a_kind_follows_from_the_interface_that_is_inherited(install: Callable[..., None], name: str) -> None:
    kind, interface, role = INTERFACES[name]
    install(kind, name)
    entry = registry.entry(kind, f"my_{name.lower()}")
    assert (entry.interface, entry.role) == (interface, role)
    assert "heirs_of.methods" not in sys.modules


def test_the_lineage_is_the_order_in_which_python_looks_up(install: Callable[..., None]) -> None:
    names = [*INTERFACES, "PlainHeir", "LongerRecord", "Nothing"]
    read = {name: list(signature("heirs_of.methods", name).lineage) for name in names}
    parameters = {name: [option.name for option in signature("heirs_of.methods", name).parameters] for name in names}
    module = importlib.import_module("heirs_of.methods")
    for name in names:
        loaded = module
        for part in name.split("."):
            loaded = getattr(loaded, part)
        true = [(cls.__module__, cls.__name__) for cls in loaded.__mro__ if cls.__module__ not in ("builtins", "abc")]
        assert read[name] == true
        if name != "HandsOn":
            assert parameters[name] == list(inspect.signature(loaded).parameters)
    assert parameters["HandsOn"] == ["strength", "mode", "source", "target", "spared", "flipped_fraction"]
    assert parameters["LongerRecord"] == ["size", "more"]
    assert signature("heirs_of.methods", "HandsOn").parameters[0].about == "how much."


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "attack",
            "Nothing",
            "expected a subclass of DataPoisoning, UpdatePoisoning, KnowledgePoisoning or ActivationPoisoning",
        ),
        ("attack", "Pretender", "is no attack by Byzantine clients; expected a subclass of"),
        ("attack", "function", "is no attack by Byzantine clients; expected a subclass of"),
        (
            "attack",
            "MyInversion",
            "no attack by Byzantine clients but an inversion by a curious server; expected it in",
        ),
        (
            "inversion",
            "Module",
            "an attack by Byzantine clients; expected it in the entry-point group fedsec.attacks",
        ),
        ("defense", "Module", "is no defense but an attack by Byzantine clients"),
        ("partition", "Nothing", "is no partition; expected a subclass of Partition"),
        ("algorithm", "Rule", "is no algorithm but a defense; expected it in the entry-point group fedsec.defenses"),
    ],
)
def test_what_nothing_would_carry_out_is_refused(
    install: Callable[..., None], kind: str, name: str, message: str
) -> None:
    install(kind, name)
    with pytest.raises(InputError, match=f"plugin 'my_{name.lower()}'") as caught:
        registry.entries(kind)
    assert message in str(caught.value)


def test_a_subclass_of_an_inversion_makes_nobody_byzantine(install: Callable[..., None]) -> None:
    install("inversion", "MyInversion")
    with pytest.raises(ValueError, match="no attack by Byzantine clients but an inversion"):
        CellConfig.model_validate({"dataset": "digits", "attack": {"name": "my_myinversion", "fraction": 0.2}})
    cell = CellConfig.model_validate({"dataset": "digits", "inversion": {"name": "my_myinversion", "iterations": 3}})
    assert cell.inversion is not None
    assert cell.inversion.options["iterations"] == 3


def test_a_subclass_of_a_client_s_defense_is_no_rule(install: Callable[..., None]) -> None:
    install("defense", "MixedIn")
    cell = CellConfig.model_validate({"dataset": "digits", "defense": {"name": "my_mixedin", "max_norm": 1.0}})
    assert [(part.name, part.role) for part in cell.defense] == [("my_mixedin", "update"), ("mean", "rule")]
