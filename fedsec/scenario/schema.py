"""JSON Schema of a scenario file, for editors: names, options and defaults to complete, summaries to hover over.

It accepts whatever `load_scenario` accepts (but a null that only repeats a default); what only a whole cell
can tell, such as an attack without a number of attackers, is left to fedsec.
"""

from typing import Any

from fedsec import registry
from fedsec.scenario import config
from fedsec.scenario.config import CellConfig, FederationConfig, LocalConfig, NamedSection, Section
from fedsec.scenario.expectations import METRICS
from fedsec.scenario.matrix import SECTIONS
from fedsec.signatures import REQUIRED, Expression, Parameter

Schema = dict[str, Any]

_NAMED: dict[str, type[NamedSection]] = {
    "partition": config.PartitionConfig,
    "model": config.ModelConfig,
    "attack": config.AttackConfig,
    "defense": config.DefenseConfig,
}
_LISTED = {"type": "array", "minItems": 1}


def scenario_schema(*, plugins: bool = True) -> Schema:
    """The JSON Schema (draft 2020-12) of a scenario file.

    Args:
        plugins: whether to include what installed plugins add.
    """
    known = {kind: registry.entries(kind, plugins=plugins) for kind in registry.KINDS}
    # What scenarios refuse, see `AttackConfig.prepare`.
    known["attack"] = {name: found for name, found in known["attack"].items() if name not in registry.inversions()}
    sections = {
        "dataset": _dataset(list(known["dataset"])),
        **{key: _named(kind, known[key]) for key, kind in _NAMED.items()},
        "federation": _federation(list(known["algorithm"])),
        "seed": _fields(CellConfig)["seed"],
        "engine": _or_bare(_object(_fields(config.EngineConfig), config.EngineConfig), "name"),
    }
    sections["defense"] = {
        "anyOf": [*sections["defense"]["anyOf"], {**_LISTED, "items": {"anyOf": sections["defense"]["anyOf"]}}]
    }
    references = {key: {"$ref": f"#/$defs/{key}"} for key in SECTIONS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fedsec scenario",
        "description": "One experiment: a base configuration, a matrix that varies it, and what is expected.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9_-]+$", "description": "Names the run folder."},
            "description": {"type": "string", "description": "What it is for."},
            **references,
            "matrix": _matrix(sections, known),
            "expect": _expect(),
        },
        "$defs": {key: sections[key] for key in SECTIONS},
    }


def _fields(section: type[Section]) -> dict[str, Schema]:
    """A section's fields without what editors have no use for."""
    properties = section.model_json_schema()["properties"]
    return {key: _plain(schema) for key, schema in properties.items() if key != "options"}


def _plain(schema: Schema) -> Schema:
    """Without titles, and without null where it merely is the default: nobody wants it offered."""
    schema = {word: value for word, value in schema.items() if word not in ("title", "format")}
    if {"type": "null"} in schema.get("anyOf", []):
        rest = [option for option in schema.pop("anyOf") if option != {"type": "null"}]
        schema = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **schema}
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    return {word: value for word, value in schema.items() if word not in ("title", "format")}


def _object(properties: dict[str, Schema], section: type[Section] | None = None, about: str = "") -> Schema:
    text = about or ((section.__doc__ or "").partition("\n")[0] if section else "")
    return {
        **({"description": text} if text else {}),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _or_bare(mapping: Schema, key: str) -> Schema:
    """A mapping, or the bare value of its main key."""
    bare = {word: value for word, value in mapping["properties"][key].items() if word in ("type", "enum")}
    return {"description": mapping.get("description", ""), "anyOf": [bare, mapping]}


def _dataset(names: list[str]) -> Schema:
    fields = _fields(config.DatasetConfig)
    fields["name"] |= {"enum": names}
    numbers = {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}
    constants = {**_object({"mean": numbers, "std": numbers}), "required": ["mean", "std"]}
    fields["normalization"]["anyOf"] = [{"enum": ["unit", "half"]}, constants]
    return _or_bare(_object(fields, config.DatasetConfig), "name")


def _federation(algorithms: list[str]) -> Schema:
    fields = _fields(FederationConfig)
    fields["algorithm"] |= {"enum": algorithms}
    fields["local"] = _object(_fields(LocalConfig), LocalConfig)
    return _object(fields, FederationConfig)


def _option(parameter: Parameter) -> Schema:
    schema = dict(registry.option_type(parameter.annotation).json_schema())
    if parameter.about:
        schema["description"] = parameter.about
    if parameter.default is not REQUIRED and not isinstance(parameter.default, Expression):
        schema["default"] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return _plain(schema)


def _named(section: type[NamedSection], entries: dict[str, registry.Entry]) -> Schema:
    """A bare name, or a mapping that has one with just its options, or one without a name for the matrix to give."""
    own = _fields(section)
    name = own.pop("name")
    variants = []
    for entry in entries.values():
        about = entry.summary + (f" ({entry.paper})" if entry.paper else "")
        options = {parameter.name: _option(parameter) for parameter in entry.parameters}
        named = {"name": {"const": entry.name, "description": about}, **own, **options}
        variants.append({**_object(named, about=about), "required": ["name"]})
    names = [*section.nothing, *entries]
    if section.nothing:
        nothing = {"name": {"enum": list(section.nothing)}, "label": own["label"]}
        variants.append({**_object(nothing, about="No attack."), "required": ["name"]})
    about = (section.__doc__ or "").partition("\n")[0]
    bare = {"type": "string", "enum": names, "description": name["description"]}
    return {"description": about, "anyOf": [bare, *variants, _object(own, section)]}


def _matrix(sections: dict[str, Schema], known: dict[str, dict[str, registry.Entry]]) -> Schema:
    keys: dict[str, Schema] = {key: {"$ref": f"#/$defs/{key}"} for key in SECTIONS}
    keys |= {f"dataset.{key}": schema for key, schema in sections["dataset"]["anyOf"][1]["properties"].items()}
    keys |= {f"engine.{key}": schema for key, schema in sections["engine"]["anyOf"][1]["properties"].items()}
    for key, schema in sections["federation"]["properties"].items():
        keys[f"federation.{key}"] = schema
        keys |= {f"federation.{key}.{inner}": item for inner, item in schema.get("properties", {}).items()}
    for kind, section in _NAMED.items():
        fields = _fields(section)
        fields["name"] |= {"enum": [*section.nothing, *known[kind]]}
        keys |= {f"{kind}.{key}": schema for key, schema in fields.items() if key != "label"}
        for entry in known[kind].values():
            for parameter in entry.parameters:
                here = keys.setdefault(f"{kind}.{parameter.name}", {"anyOf": []})
                if "anyOf" in here and _option(parameter) not in here["anyOf"]:
                    here["anyOf"].append(_option(parameter))
    return {
        "description": "What varies: key -> list of values; the cells are the product. `a+b` varies two keys together.",
        "type": "object",
        "properties": {key: {**_LISTED, "items": schema} for key, schema in keys.items()},
        "patternProperties": {r"^[^+]+(\+[^+]+)+$": {**_LISTED, "items": {"type": "array", "minItems": 2}}},
        "additionalProperties": False,
    }


def _expect() -> Schema:
    bound = {
        "type": "string",
        "pattern": r"^\s*(>=|<=|==|>|<|[-+.\d]).*\d",
        "description": 'A comparison such as ">= 0.65" or "0.6 .. 0.7"; accuracies are fractions.',
    }
    chosen = {"description": "Which cells: a name, a label, a scalar or a part of the mapping."}
    return {
        "description": "What is expected of the results; unmet expectations end the run with exit code 1.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": dict.fromkeys(METRICS, bound) | dict.fromkeys(SECTIONS, chosen),
            "patternProperties": {f"^({'|'.join(SECTIONS)})\\.": chosen},
            "additionalProperties": False,
        },
    }
