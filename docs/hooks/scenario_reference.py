"""The reference of scenario files, a page for each section, from `scenarios/schema.json`: every key, type and default.

The schema is what editors read, and a test holds it to what fedsec accepts; so these pages cannot say anything else.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from markdown_tables import table
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from fedsec.plugins import registry

Schema = dict[str, Any]
FOLDER = "reference/scenario"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `reference/scenario/index.md` and a page for each section."""
    schema = json.loads((Path(config.docs_dir).parent / "scenarios/schema.json").read_text())
    files.append(File.generated(config, f"{FOLDER}/index.md", content=_index(schema)))
    for name, section in schema["$defs"].items():
        files.append(File.generated(config, f"{FOLDER}/{name}.md", content=_section(name, section)))
    files.append(File.generated(config, "reference/scenarios.md", content=_shipped(Path(config.docs_dir).parent)))
    return files


SHIPPED = """# Scenarios that come with fedsec

`fedsec run NAME` runs one from any folder; `fedsec scenarios` lists them with their cells and whether their data are
here; `fedsec init my_own --from NAME` writes a copy to change.

{table}
"""


def _shipped(root: Path) -> str:
    rows = []
    for path in sorted(root.glob("scenarios/*.yaml")):
        about = str(yaml.safe_load(path.read_text()).get("description", "")).replace("<", "&lt;")
        rows.append((f"[{path.stem}](../../scenarios/{path.name})", about))
    return SHIPPED.format(table="\n".join(table(("name", "what it shows"), rows)))


INDEX = """# Scenario files

A scenario is one YAML mapping. Whatever is left out has the default that stands here; whatever is wrong is named with
file, line and key. An editor that knows JSON Schema completes and checks it: `fedsec schema > schema.json` writes the
schema, and `# yaml-language-server: $schema=schema.json` on the first line of a scenario beside it names it.

{sections}

## What a matrix may vary

Every key of a section, by its path, has a list of values, and the cells are all combinations:

```yaml
matrix:
  defense: [mean, median]
  federation.rounds: [5, 50]
  partition.clients+federation.clients_per_round: [[10, 10], [100, 10]]   # two keys together
```

<details><summary>All paths</summary><p>{paths}</p></details>

## What an expectation may bound

An entry of `expect` is a mapping that chooses cells by any section (a name, a label, a part of the mapping), and bounds
these metrics by a comparison such as `">= 0.65"` or `"0.6 .. 0.7"`; accuracies are fractions. An unmet expectation ends
the run with exit code 1.

{metrics}
"""


def _index(schema: Schema) -> str:
    sections = schema["$defs"]
    rows = []
    for key, value in schema["properties"].items():
        name = f"[`{key}`]({key}.md)" if key in sections else f"`{key}`"
        rows.append((name, "" if key in sections else _type(value), _summary(sections.get(key, value))))
    expected = [name for name in schema["properties"]["expect"]["items"]["properties"] if name not in sections]
    return INDEX.format(
        sections="\n".join(table(("key", "type", "meaning"), rows)),
        paths=", ".join(f"<code>{path}</code>" for path in sorted(schema["properties"]["matrix"]["properties"])),
        metrics=", ".join(f"`{name}`" for name in expected) + ".",
    )


def _section(name: str, section: Schema) -> str:
    choices = section.get("anyOf", [])
    named = [choice for choice in choices if "properties" in choice and _is_choice(choice)]
    lines = [f"# `{name}`", "", _summary(section), ""]
    if not named:
        mapping = next((choice for choice in choices if "properties" in choice), section)
        lines += _keys(name, mapping) if "properties" in mapping else [f"Type: {_type(section)}.", ""]
        return "\n".join(lines)
    common = set.intersection(*(set(choice["properties"]) for choice in named)) - {"name"}
    names = ", ".join(f"[`{_name(choice)}`](#{_name(choice)})" for choice in named)
    lines += [f"A name alone, or a mapping with `name` and options: {names}.", ""]
    if name == "defense":
        lines += ["A list of them is applied in its order, what clients do first and the server's rule last.", ""]
    if common:
        shared = {key: named[0]["properties"][key] for key in named[0]["properties"] if key in common}
        lines += ["## With every name", "", *_keys(name, {"properties": shared}, level=3)]
    for choice in named:
        own = {key: value for key, value in choice["properties"].items() if key not in {*common, "name"}}
        lines += [f"## `{_name(choice)}` {{ #{_name(choice)} }}", "", _about(choice), ""]
        lines += _keys("", {"properties": own}, level=3) if own else ["No options of its own.", ""]
    return "\n".join(lines)


def _name(choice: Schema) -> str:
    return str(choice["properties"]["name"]["const"])


def _keys(path: str, mapping: Schema, level: int = 2) -> list[str]:
    """A table of a mapping's keys, and below it one for each mapping among them."""
    rows: list[tuple[str, ...]] = []
    nested: list[str] = []
    for key, value in mapping["properties"].items():
        inner = [part for part in [value, *value.get("anyOf", [])] if "properties" in part]
        place = f"{path}.{key}" if path else key
        rows.append((f"`{key}`", _type(value), _default(value) or _defaults(place), _algorithms(place), _about(value)))
        if inner:
            nested += [f"{'#' * level} `{place}`", "", _about(value), ""]
            nested += _choices(inner, level + 1) if _is_choice(inner[0]) else _keys(place, inner[0], min(level + 1, 4))
    return [*table(("key", "type", "default", "algorithms", "meaning"), rows), "", *nested]


def _is_choice(mapping: Schema) -> bool:
    return "const" in mapping["properties"].get("name", {})


def _choices(choices: list[Schema], level: int) -> list[str]:
    """A heading for each mapping of which one is chosen by its name, and a table of its options."""
    lines: list[str] = []
    for choice in filter(_is_choice, choices):
        lines += [f"{'#' * min(level, 6)} `{_name(choice)}`", "", _about(choice), ""]
        options = {key: value for key, value in choice["properties"].items() if key != "name"}
        lines += _keys("", {"properties": options}, 6) if options else ["No options of its own.", ""]
    return lines


def _algorithms(path: str) -> str:
    """Which algorithms have an option of the federation, where not all of them do or it is none of theirs."""
    section, _, key = path.partition(".")
    known = registry.entries("algorithm", plugins=False) if section == "federation" else {}
    taking = [name for name, entry in known.items() if any(option.name == key for option in entry.parameters)]
    others = [name for name in known if name not in taking]
    named = others if len(taking) > len(others) else taking
    words = ", ".join(f"`{name}`" for name in named)
    return f"all but {words}" if named is others and others else words


def _defaults(path: str) -> str:
    """What an option of the federation is unless somebody says otherwise, where that depends on the algorithm."""
    section, _, key = path.partition(".")
    known = registry.entries("algorithm", plugins=False) if section == "federation" else {}
    values: dict[str, list[str]] = {}
    for name, entry in known.items():
        for option in entry.parameters:
            if option.name == key and isinstance(option.default, int | float):
                values.setdefault(f"`{json.dumps(option.default)}`", []).append(f"`{name}`")
    # Most of them first, and those without their names.
    common, *others = sorted(values, key=lambda value: -len(values[value])) or [""]
    few = len(values.get(common, ())) == 1
    words = [f"{common} ({', '.join(values[common])})" if few and others else common]
    return "; ".join([*words, *(f"{value} ({', '.join(values[value])})" for value in others)])


def _type(value: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in value:
        section = value["$ref"].rpartition("/")[2]
        return f"as [`{section}`]({section}.md)"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(part) for part in value["anyOf"]))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{name}`" for name in value["enum"])
    kind: str = value.get("type", "any")
    if kind == "array":
        return f"list of {_type(value['items'])}" if "items" in value else "list"
    names = {"object": "mapping", "integer": "whole number", "string": "text", "boolean": "`true` or `false`"}
    bounds = [
        f"{sign} {value[word]:g}"
        for word, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if word in value and abs(value[word]) < 1e6
    ]
    return " ".join([names.get(kind, kind), ", ".join(bounds)]).strip()


def _default(value: Schema) -> str:
    return f"`{json.dumps(value['default'])}`" if "default" in value else ""


def _summary(section: Schema) -> str:
    """What a section is; where it is said of the mapping alone, from there."""
    told = [_about(part) for part in [section, *reversed(section.get("anyOf", []))]]
    return next((text for text in told if text), "")


def _about(value: Schema) -> str:
    text = str(value.get("description", "")).strip()
    text = f"{text[:1].upper()}{text[1:]}" if text[:1].islower() and not text.partition(":")[0].islower() else text
    return text.replace("<", "&lt;").replace("*", "\\*") if "`" not in text else text
