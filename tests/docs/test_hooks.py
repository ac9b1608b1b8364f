"""What the site makes by itself: pages for files outside docs/, the reference of scenarios, commands and Python."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="the documentation's packages are not installed (group docs)")
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a hook as mkdocs does."""
    monkeypatch.syspath_prepend(ROOT / "docs/hooks")
    yield import_module
    for name in [name for name, module in sys.modules.items() if "docs/hooks" in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def test_every_key_of_a_scenario_is_in_its_reference(hook: Any) -> None:
    schema = json.loads((ROOT / "scenarios/schema.json").read_text())
    for name, section in schema["$defs"].items():
        page = hook("scenario_reference")._section(name, section)
        for key, about in keys(section):
            assert f"| `{key}` |" in page or f"## `{about}`" in page, (name, key)


def keys(section: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Every key that may be written in a section; of a named choice, its name."""
    parts = section.get("anyOf", [section])
    named = [part for part in parts if "const" in part.get("properties", {}).get("name", {})]
    for part in named or parts:
        for key, value in part.get("properties", {}).items():
            yield key, value.get("const") if key == "name" else None
            yield from keys(value)


def test_types_and_defaults_are_told_in_words(hook: Any) -> None:
    kind = hook("scenario_reference")._type
    assert kind({"type": "integer", "minimum": 1, "maximum": 10**9}) == "whole number >= 1"
    assert kind({"anyOf": [{"enum": ["a", "b"]}, {"type": "array", "items": {"type": "number"}}]}) == (
        "`a`, `b` or list of number"
    )
    assert hook("scenario_reference")._default({"default": [1, None]}) == "`[1, null]`"


def test_options_of_an_algorithm_name_it(hook: Any) -> None:
    section = json.loads((ROOT / "scenarios/schema.json").read_text())["$defs"]["federation"]
    page = hook("scenario_reference")._section("federation", section)
    lines = page[: page.index("\n## ")].splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert "| `alpha` | number | `0.01` | `feddyn` |" in rows["alpha"]
    assert "| `mu` | number | `0.01` (`fedprox`); `0.0` (`fednova`) | `fedprox`, `fednova` |" in rows["mu"]
    assert "| `server_lr` | number | `1.0`; `0.1` (`fedopt`) |" in rows["server_lr"]
    assert "| `fedsgd` |" in rows["worker_momentum"]
    assert "all but `fedgkt`" in rows["server_lr"]
    assert "|  |" in rows["rounds"]


def test_a_bar_ends_a_cell_only_outside_of_code(hook: Any) -> None:
    assert hook("markdown_tables").table(("a", "b", "c"), [("`x|y` or x|y", "", "two\nlines")]) == [
        "| a | c |",
        "| --- | --- |",
        "| `x|y` or x\\|y | two lines |",
    ]


def test_every_command_and_option_is_in_the_reference(hook: Any) -> None:
    reference = hook("command_reference")
    group: Any = reference.get_command(reference.app)
    for command in group.commands.values():
        page = reference._command(command)
        for parameter in command.params:
            options = [name for name in parameter.opts if name.startswith("--")]
            shown = [name for name in options if f"`{name}`" in page]
            assert shown == ([] if getattr(parameter, "hidden", False) else options)
    assert "| `SCENARIO` | A scenario file" in reference._command(group.commands["run"])
    assert "`[]`" not in reference._command(group.commands["run"])


def test_links_out_of_docs_lead_to_pages_of_the_site(hook: Any) -> None:
    pages = hook("repository_pages")
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"))
    page = SimpleNamespace(file=SimpleNamespace(src_uri="flower.md"))
    text = "[app](../examples/flower_app) [other](cluster.md#what-is-trusted) [all](../README.md) `[code](../LICENSE)`"
    assert pages.on_page_markdown(text, page, config, None) == (
        "[app](repository/examples/flower_app.md) [other](cluster.md#what-is-trusted) [all](readme.md)"
        " `[code](../LICENSE)`"
    )
    assert "quickstart.yaml" in pages._content(ROOT / "scenarios", ROOT)
    assert pages._content(ROOT / "scenarios/quickstart.yaml", ROOT).startswith(
        "# scenarios/quickstart.yaml\n\n`````yaml"
    )


def test_every_public_name_is_in_the_python_reference(hook: Any) -> None:
    import fedsec

    page = hook("python_reference")._page("fedsec", (ROOT / "fedsec/__init__.py").read_text())
    packages = hook("python_reference").PACKAGE_NAMES
    assert all(f"::: fedsec.{name}\n" in page for name in fedsec.__all__ if name not in packages)
    for name in ("InversionResult", "TextInversionResult"):  # whose base is no public name
        assert f"::: fedsec.{name}\n    options:\n      inherited_members: true\n" in page


@pytest.mark.parametrize("tag", ['<script src="//cdn.example/x.js">', '<img alt="" src="https://example.org/x.png">'])
def test_a_page_that_asks_somebody_else_is_refused(hook: Any, tag: str) -> None:
    check = hook("self_contained").on_post_page
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert check('<a href="https://example.org">a link is no request</a>', page, None)
    with pytest.raises(PluginError, match=r"index\.md would load .*example"):
        check(f"<html>{tag}</html>", page, None)


def test_every_scenario_that_comes_with_fedsec_is_listed(hook: Any) -> None:
    page = hook("scenario_reference")._shipped(ROOT)
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(rows) == len(list(ROOT.glob("scenarios/*.yaml")))
    assert all(len(row.split(" | ")[1].split()) > 3 for row in rows)
