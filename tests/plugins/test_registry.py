"""The registry reads source; here it is compared with what importing gives."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.option_types import option_type
from fedsec.plugins.signatures import REQUIRED, Expression, Signature, signature, table
from fedsec.plugins.sources import MethodSource, define, lineage
from fedsec.scenario import AttackConfig, DefenseConfig, InversionConfig, ModelConfig, PartitionConfig
from fedsec.scenario.audit.membership import InferenceConfig

ENTRIES = [(kind, name) for kind in registry.KINDS for name in registry.entries(kind)]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_source_and_class_agree(kind: str, name: str) -> None:
    read, loaded = registry.entry(kind, name), registry.load(kind, name)
    true = inspect.signature(loaded).parameters
    given = registry.KINDS[kind].given
    assert [parameter.name for parameter in read.parameters] == [key for key in true if key not in given]
    for parameter in read.parameters:
        default = true[parameter.name].default
        if not isinstance(parameter.default, Expression):
            assert parameter.default == (REQUIRED if default is inspect.Parameter.empty else default)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_explains_itself(kind: str, name: str) -> None:
    entry = registry.entry(kind, name)
    assert entry.summary.endswith(".")
    assert len(entry.summary) <= 120
    if kind in ("attack", "inversion", "inference", "defense"):
        assert entry.paper
        assert all(parameter.about for parameter in entry.parameters)
    assert json.dumps(entry.as_json())


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in ENTRIES if k not in ("algorithm", "dataset")])
def test_every_option_has_a_type_that_is_checked(kind: str, name: str) -> None:
    sections = {
        "attack": AttackConfig,
        "inversion": InversionConfig,
        "inference": InferenceConfig,
        "defense": DefenseConfig,
        "model": ModelConfig,
        "partition": PartitionConfig,
    }
    for parameter in registry.entry(kind, name).parameters:
        assert option_type(parameter.annotation).json_schema(), f"{parameter} has no type fedsec understands"
        assert parameter.name not in sections[kind].model_fields, f"{parameter.name} belongs to the scenario"


def test_reading_the_tables_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fedsec.plugins import registry\n"
        "for kind in registry.KINDS: registry.entries(kind)\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'typer', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_list_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown defense 'medain' \(did you mean 'median'\?\); see fedsec list"):
        registry.entry("defense", "medain")
    with pytest.raises(InputError, match=r"unknown attack 'qqq'; known: none, label_flip"):
        registry.entry("attack", "qqq", also=["none"])


def test_options_are_validated_and_defaults_filled_in() -> None:
    assert registry.check("partition", "dirichlet", {"alpha": 1}) == {
        "alpha": 1.0,
        "family": "per_class",
        "min_per_client": 1,
    }
    assert isinstance(registry.check("partition", "dirichlet", {"alpha": 1})["alpha"], float)
    assert registry.check("model", "mlp", {"hidden": [3, 4]})["hidden"] == [3, 4]
    assert registry.check("attack", "label_flip", {"mode": "pair", "source": 1, "target": 2})["source"] == 1


@pytest.mark.parametrize(
    ("kind", "name", "options", "message"),
    [
        ("partition", "dirichlet", {"alpha": "0.5"}, "where.alpha: expected a finite number, got '0.5'"),
        ("partition", "dirichlet", {"alpha": True}, "where.alpha: expected a finite number, got true"),
        ("partition", "dirichlet", {"alpha": float("nan")}, "where.alpha: expected a finite number, got nan"),
        ("partition", "dirichlet", {"min_per_client": 1.5}, "where.min_per_client: expected an integer, got 1.5"),
        ("partition", "dirichlet", {"min_per_client": True}, "where.min_per_client: expected an integer, got true"),
        ("partition", "dirichlet", {"famly": 1}, "where.famly: unknown key for partition 'dirichlet' (did you mean"),
        ("partition", "dirichlet", {"family": "per_clas"}, "per_class, per_client, got 'per_clas' (did you mean"),
        ("model", "cnn", {"channels": [1, "2"]}, 'where.channels: expected a list, each an integer, got [1, "2"]'),
        ("model", "cnn", {"channels": 3}, "where.channels: expected a list, each an integer, got 3"),
        ("attack", "label_flip", {"source": 1.5}, "where.source: expected an integer or text or null, got 1.5"),
    ],
)
def test_wrong_options_are_named(kind: str, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        registry.check(kind, name, options, "where")
    assert message in str(caught.value)


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        registry.check("partition", "dirichlet", {"alpha": "x", "famly": 1, "min_per_client": None})
    assert len(str(caught.value).splitlines()) == 3


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes modules of a package that nobody has imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**modules: str) -> None:
        package = tmp_path / "sample_package"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        for name, text in modules.items():
            (package / f"{name}.py").write_text(text)

    for cached in (signature, define, lineage, MethodSource.of):
        cached.cache_clear()
    yield make
    for name in [name for name in sys.modules if name.startswith("sample_package")]:
        del sys.modules[name]


TYPES = "from typing import Literal\nMode = Literal['a', 'b']\nSIZE = (1, 2)\n"
CLASSES = '''
from dataclasses import dataclass, field
from typing import ClassVar
from sample_package.types import SIZE, Mode

@dataclass(frozen=True)
class Base:
    """The base.

    Args:
        first: which way
            round.
    """

    first: "Mode" = "a"
    shared: ClassVar[int] = 3

@dataclass
class Child(Base):
    """A child; it inherits.

    Reference:
        Somebody 2020.
        Another 2021.
    """

    second: int = field(default=7)
    third: dict = field(default_factory=lambda: {"x": 1})
    first: "Mode" = "b"

class Plain:
    """Plain.

    Reference: Long, A title that goes
        on, 2022.

    More text.
    """

    def __init__(self, needed: float, size: tuple[int, ...] = SIZE, *, key: str = "k", made=len("ab")) -> None: ...

class Heir(Plain):
    pass

def function(flag: bool = True) -> None:
    """A function."""

TABLE: dict[str, type] = {"child": Child, "plain": Plain, "function": function}
'''


def read(name: str) -> Signature:
    return signature("sample_package.classes", name)


def test_dataclasses_aliases_and_bases(write: Callable[..., None]) -> None:
    write(types=TYPES, classes=CLASSES)
    child = read("Child")
    assert [(p.name, p.annotation, p.default) for p in child.parameters] == [
        ("first", "Literal['a', 'b']", "b"),
        ("second", "int", 7),
        ("third", "dict", {"x": 1}),
    ]
    assert child.parameters[0].about == "which way round."
    assert (child.summary, child.paper) == ("A child; it inherits.", "Somebody 2020.")
    assert [name for _, name in child.lineage] == ["Child", "Base"]
    assert child.traits["shared"] == 3


def test_constructors(write: Callable[..., None]) -> None:
    write(types=TYPES, classes=CLASSES)
    plain = read("Plain")
    assert plain.paper == "Long, A title that goes on, 2022."
    assert [str(p) for p in plain.parameters] == ["needed (required)", "size=[1, 2]", "key=k", "made=len('ab')"]
    assert read("Heir").parameters == plain.parameters
    assert [str(p) for p in read("function").parameters] == ["flag=true"]
    assert list(table("sample_package.classes", "TABLE")) == ["child", "plain", "function"]
    assert "sample_package.classes" not in sys.modules


def test_tables_that_cannot_be_read(write: Callable[..., None]) -> None:
    write(tables="A = dict(x=int)\nB = {'x': len('y')}\n")
    for name in ("A", "B", "C"):
        with pytest.raises(LookupError):
            table("sample_package.tables", name)
    with pytest.raises(LookupError):
        table("sample_package.nowhere", "A")
    with pytest.raises(LookupError):
        table("no_such_package_at_all", "A")


PLUGIN = '''
from fedsec.defense import CoordinateRule
class First(CoordinateRule):
    """Takes the first client's word.

    Args:
        row: whose word.
    """
    def __init__(self, row: int = 0) -> None: ...
'''


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]) -> Iterator[Callable[..., None]]:
    def make(*points: tuple[str, str], **modules: str) -> None:
        write(**modules)
        found = [EntryPoint(name, value, "fedsec.defenses") for name, value in points]

        def entry_points(*, group: str) -> list[EntryPoint]:
            return found if group == "fedsec.defenses" else []

        monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
        registry._plugins.cache_clear()

    yield make
    registry._plugins.cache_clear()


def test_plugins_stand_beside_the_built_ins(install: Callable[..., None]) -> None:
    install(("first", "sample_package.plugin:First"), plugin=PLUGIN)
    assert list(registry.entries("defense"))[-1] == "first"
    entry = registry.entry("defense", "first")
    assert (entry.summary, entry.plugin) == ("Takes the first client's word.", "sample_package.plugin:First")
    assert registry.check("defense", "first", {"row": 2}) == {"row": 2}
    assert "sample_package.plugin" not in sys.modules
    assert registry.load("defense", "first").__name__ == "First"
    assert "first" not in registry.entries("defense", plugins=False)
    assert "first" not in registry.entries("attack")


@pytest.mark.parametrize("name", ["median", "none"])
def test_a_plugin_cannot_shadow_a_built_in(install: Callable[..., None], name: str) -> None:
    install((name, "sample_package.plugin:First"), plugin=PLUGIN)
    with pytest.raises(InputError, match=rf"calls its defense '{name}', which is a built-in name"):
        registry.entry("defense", "mean")


def test_two_plugins_of_one_name(install: Callable[..., None]) -> None:
    install(("first", "sample_package.plugin:First"), ("first", "sample_package.other:First"), plugin=PLUGIN)
    with pytest.raises(InputError, match="'first' comes from both"):
        registry.entries("defense")


def test_broken_plugins_are_named(install: Callable[..., None]) -> None:
    install(("gone", "sample_package.gone:First"))
    with pytest.raises(InputError, match=r"plugin 'gone' .* cannot read sample_package\.gone:First"):
        registry.entries("defense")
    install(("bad", "sample_package.bad:First"), bad=PLUGIN + "\nraise OSError('out of order')\n")
    assert "bad" in registry.entries("defense")
    with pytest.raises(InputError, match=r"plugin 'bad' .* cannot be imported: out of order"):
        registry.load("defense", "bad")


def test_tables_are_read_once_and_nobody_can_change_what_is_known() -> None:
    """Resolving a scenario of some hundred cells asks for entries ten thousands of times."""
    known = registry.entries("defense")
    median = registry.entry("defense", "median")
    assert known["median"] is median
    known.clear()
    assert registry.entry("defense", "median") is median
