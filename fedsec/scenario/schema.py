"""JSON Schema of a scenario file, for editors: names, options and defaults to complete, summaries to hover over.

It accepts whatever `load_scenario` accepts (but a null that only repeats a default); what only a whole cell
can tell, such as an attack without a number of attackers, is left to fedsec.
"""

from typing import Any

from fedsec.metrics.metric import METRICS
from fedsec.plugins import registry
from fedsec.plugins.option_types import option_type
from fedsec.plugins.signatures import REQUIRED, Expression, Parameter
from fedsec.scenario import config, declared, federation_config, inversion_config
from fedsec.scenario.audit import audit_config
from fedsec.scenario.audit.inferences import InferenceConfig
from fedsec.scenario.audit.labels import LabelInferenceConfig
from fedsec.scenario.audit.properties import PropertyInferenceConfig
from fedsec.scenario.config import CellConfig
from fedsec.scenario.matrix import SECTIONS
from fedsec.scenario.named_sections import NamedSection, Section
from fedsec.scenario.participation.graph_config import ExchangesConfig, GraphConfig
from fedsec.scenario.participation.grouping_config import GroupingConfig
from fedsec.scenario.participation.selection_config import SelectionConfig
from fedsec.scenario.participation.stragglers_config import StragglersConfig
from fedsec.scenario.training import local_config, schedule_config

Schema = dict[str, Any]

_NAMED: dict[str, type[NamedSection]] = {
    "partition": config.PartitionConfig,
    "model": config.ModelConfig,
    "attack": config.AttackConfig,
    "inversion": config.InversionConfig,
    "defense": config.DefenseConfig,
}
_LISTED = {"type": "array", "minItems": 1}


def scenario_schema(*, plugins: bool = True) -> Schema:
    """The JSON Schema (draft 2020-12) of a scenario file.

    Args:
        plugins: whether to include what installed plugins add.
    """
    known = {kind: registry.entries(kind, plugins=plugins) for kind in registry.KINDS}
    sections = {
        "dataset": _dataset(known["dataset"]),
        **{key: _named(kind, known[kind.kind]) for key, kind in _NAMED.items()},
        "federation": _federation(known["algorithm"]),
        "audit": _audit(known["inference"]),
        "metrics": _metrics(list(known["metric"])),
        "seed": _fields(CellConfig)["seed"],
        "engine": _or_bare(_object(_fields(config.EngineConfig), config.EngineConfig), "name"),
    }
    sections["defense"] = {
        "anyOf": [*sections["defense"]["anyOf"], {"type": "array", "items": {"anyOf": sections["defense"]["anyOf"]}}]
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


def _audit(inferences: dict[str, registry.Entry]) -> Schema:
    """The parts of an audit, each a section of its own."""
    fields = _fields(audit_config.AuditConfig)
    for name in audit_config.PARTS:
        fields[name] = _section(audit_config.SECTIONS[name])
    parts: dict[str, tuple[str, type[InferenceConfig]]] = {
        "membership": ("membership", InferenceConfig),
        "properties": ("property", PropertyInferenceConfig),
        "labels": ("label", LabelInferenceConfig),
    }
    for part, (role, section) in parts.items():
        about = fields[part]["properties"]["inferences"]["description"]
        named = _named(section, {key: one for key, one in inferences.items() if one.role == role})
        fields[part]["properties"]["inferences"] = {
            "description": about,
            "anyOf": [*named["anyOf"], {**_LISTED, "items": {"anyOf": named["anyOf"]}}],
        }
    return _object(fields, audit_config.AuditConfig)


def _fields(section: type[Section]) -> dict[str, Schema]:
    """A section's fields without what editors have no use for."""
    whole = section.model_json_schema()
    properties = {key: _inlined(schema, whole.get("$defs", {})) for key, schema in whole["properties"].items()}
    return {key: _plain(schema) for key, schema in properties.items() if key != "options"}


def _inlined(schema: Any, sections: dict[str, Schema]) -> Any:
    """With sections of sections in their places: editors see no other file."""
    if isinstance(schema, list):
        return [_inlined(one, sections) for one in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {word: _inlined(value, sections) for word, value in schema.items()}
    if "$ref" in whole:
        section = sections[whole.pop("$ref").rpartition("/")[2]]
        own = {key: _plain(_inlined(value, sections)) for key, value in section.get("properties", {}).items()}
        whole = {**section, **({"properties": own} if own else {}), **whole}
    return whole


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


def _dataset(entries: dict[str, registry.Entry]) -> Schema:
    fields = _own(config.DatasetConfig)
    fields["name"] |= {"enum": list(entries)}
    fields |= {option: _any_of(_options(entries, option)) for option in _option_names(entries)}
    numbers = {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}
    constants = {**_object({"mean": numbers, "std": numbers}), "required": ["mean", "std"]}
    fields["normalization"]["anyOf"] = [{"enum": ["unit", "half"]}, constants]
    return _or_bare(_object(fields, config.DatasetConfig), "name")


def _metrics(names: list[str]) -> Schema:
    name = {"enum": names}
    about = _fields(CellConfig)["metrics"]["description"]
    return {"description": about, "anyOf": [name, {"type": "array", "items": name, "uniqueItems": True}]}


def _federation(algorithms: dict[str, registry.Entry]) -> Schema:
    fields = _fields(federation_config.FederationConfig)
    fields["algorithm"] |= {"enum": list(algorithms)}
    # Which of them go with which algorithm is said when the file is read.
    fields |= {name: _any_of(_options(algorithms, name)) for name in _option_names(algorithms) if name not in fields}
    local = _fields(local_config.LocalConfig)
    augmentation = _section(local_config.AugmentationConfig)
    about = local["augmentation"]["description"]
    local["augmentation"] = {"description": about, "anyOf": [{"enum": ["standard", "none"]}, augmentation]}
    server = _fields(federation_config.ServerConfig)
    about = (federation_config.ServerModelConfig.__doc__ or "").partition("\n")[0]
    server["model"] = {"description": f"{about} The default is resnet55.", "$ref": "#/$defs/model"}
    several = {**_LISTED, "items": {"type": "integer", "minimum": 1}}
    server["epochs"] |= {"anyOf": [{"type": "integer", "minimum": 1}, several]}
    schedule = _or_bare(_section(schedule_config.ScheduleConfig), "decay")
    local["schedule"] = {**schedule, "description": local["schedule"]["description"]}
    fields["server_schedule"] = {**schedule, "description": fields["server_schedule"]["description"]}
    fields["local"] = _object(local, local_config.LocalConfig)
    fields["server"] = _object(server, federation_config.ServerConfig)
    fields["stragglers"] = _section(StragglersConfig)
    fields["server_data"] = _section(federation_config.ServerDataConfig)
    selection = _section(SelectionConfig)
    selection["properties"]["trace"]["anyOf"] = [{"type": "string"}, selection["properties"]["trace"].copy()]
    for word in ("type", "items"):
        del selection["properties"]["trace"][word]
    about = fields["selection"]["description"]
    fields["selection"] = {**_or_bare({**selection, "required": ["name"]}, "name"), "description": about}
    graph = _section(GraphConfig)
    for name in ("edges", "weights"):
        about = graph["properties"][name].pop("description")
        graph["properties"][name] = {"description": about, "anyOf": [{"type": "string"}, graph["properties"][name]]}
    fields["graph"] = {**_or_bare(graph, "name"), "description": fields["graph"]["description"]}
    fields["pairwise"] = _section(ExchangesConfig)
    about = fields["grouping"]["description"]
    fields["grouping"] = {**_or_bare(_section(GroupingConfig), "name"), "description": about}
    fields["secure_aggregation"] = _section(federation_config.SecureAggregationConfig)
    fields["distillation"] = _section(federation_config.DistillationConfig)
    return _object(fields, federation_config.FederationConfig)


def _section(section: type[Section]) -> Schema:
    """A section of plain values."""
    return _object(_fields(section), section)


def _option(parameter: Parameter) -> Schema:
    schema = dict(option_type(parameter.annotation).json_schema())
    if parameter.about:
        schema["description"] = parameter.about
    if parameter.default is not REQUIRED and not isinstance(parameter.default, Expression):
        schema["default"] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return _plain(schema)


def _own(section: type[NamedSection]) -> dict[str, Schema]:
    """The keys that a named section has beside options."""
    own = _fields(section)
    if section is config.InversionConfig:
        own["target"] = _section(inversion_config.TargetConfig)
        own["knowledge"] = _section(inversion_config.KnowledgeConfig)
    return own


def _named(section: type[NamedSection], entries: dict[str, registry.Entry]) -> Schema:
    """A bare name, or a mapping that has one with just its options, or one without a name for the matrix to give."""
    own = _own(section)
    name = own.pop("name")
    variants = []
    for entry in entries.values():
        about = entry.summary + (f" ({entry.paper})" if entry.paper else "")
        options = {parameter.name: _option(parameter) for parameter in entry.parameters}
        options |= _declarable(options) if section is config.DefenseConfig else {}
        named = {"name": {"const": entry.name, "description": about}, **own, **options}
        variants.append({**_object(named, about=about), "required": ["name"]})
    names = [*section.nothing, *entries]
    if section.nothing:
        nothing = {"name": {"enum": list(section.nothing)}, "label": own["label"]}
        variants.append({**_object(nothing, about=f"No {section.kind}."), "required": ["name"]})
    about = (section.__doc__ or "").partition("\n")[0]
    bare = {"type": "string", "enum": names, "description": name["description"]}
    # Without a name the options are those of whatever the matrix names.
    anonymous = dict(own)
    for option in _option_names(entries):
        anonymous[option] = _any_of([*([own[option]] if option in own else []), *_options(entries, option)])
    anonymous |= _declarable(anonymous) if section is config.DefenseConfig else {}
    return {"description": about, "anyOf": [bare, *variants, _object(anonymous, section)]}


def _declarable(options: dict[str, Schema]) -> dict[str, Schema]:
    """Options of a defense in whose place stands `actual`, or a share of a round's clients beside them."""
    if (count := declared.counted(list(options))) is None:
        return {}
    actual = {"const": declared.ACTUAL, "description": "As many as the attack has."}
    share = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    about = "Share of a round's clients to withstand, rounded down; excludes a number."
    return {count: _any_of([options[count], actual]), declared.SHARE: {**share, "description": about}}


def _option_names(entries: dict[str, registry.Entry]) -> list[str]:
    return list(dict.fromkeys(option.name for entry in entries.values() for option in entry.parameters))


def _options(entries: dict[str, registry.Entry], name: str) -> list[Schema]:
    """The distinct schemas of all options of a name."""
    schemas: list[Schema] = []
    for entry in entries.values():
        for parameter in entry.parameters:
            if parameter.name == name and (schema := _option(parameter)) not in schemas:
                schemas.append(schema)
    return schemas


def _any_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _matrix(sections: dict[str, Schema], known: dict[str, dict[str, registry.Entry]]) -> Schema:
    keys: dict[str, Schema] = {key: {"$ref": f"#/$defs/{key}"} for key in SECTIONS}
    for key in ("dataset", "engine", "federation", "audit"):
        keys |= _paths(key, sections[key])
    named: dict[str, type[NamedSection]] = {**_NAMED, "federation.server.model": federation_config.ServerModelConfig}
    mappings = ["dataset.normalization"]
    for place, section in named.items():
        fields = _own(section)
        fields["name"] |= {"enum": [*section.nothing, *known[section.kind]]}
        for key, schema in fields.items():
            keys |= {f"{place}.{key}": schema, **_paths(f"{place}.{key}", schema)} if key != "label" else {}
        for name in _option_names(known[section.kind]):
            options, key = _options(known[section.kind], name), f"{place}.{name}"
            keys[key] = _any_of([keys[key], *options]) if key in keys else {"anyOf": options}
            mappings += [key] if any("object" in _types(option) for option in options) else []
        if section is config.DefenseConfig:
            by_name = {name: _any_of(_options(known["defense"], name)) for name in _option_names(known["defense"])}
            keys |= {f"{place}.{key}": schema for key, schema in _declarable(by_name).items()}
    for key, schema in keys.items():
        if key.startswith("federation.") and "object" in _types(schema):
            keys[key] = _any_of([schema, {"type": "null"}])  # none of it, in one of the matrix's cells
    inner = "|".join(key.replace(".", r"\.") for key in mappings)
    return {
        "description": "What varies: key -> list of values; the cells are the product. `a+b` varies two keys together.",
        "type": "object",
        "properties": {key: {**_LISTED, "items": schema} for key, schema in keys.items()},
        "patternProperties": {
            r"^[^+]+(\+[^+]+)+$": {**_LISTED, "items": {"type": "array", "minItems": 2}},
            rf"^({inner})\.[^+]+$": _LISTED,
        },
        "additionalProperties": False,
    }


def _paths(place: str, schema: Schema) -> dict[str, Schema]:
    """Every key below a mapping, with its path."""
    paths: dict[str, Schema] = {}
    for option in schema.get("anyOf", [schema]):
        for key, inner in option.get("properties", {}).items():
            if key == "label":
                continue  # varied alone, it makes the same cells again
            paths |= {f"{place}.{key}": inner, **_paths(f"{place}.{key}", inner)}
    return paths


def _types(schema: Schema) -> set[str]:
    """The JSON types that a schema allows."""
    return {str(option.get("type")) for option in schema.get("anyOf", [schema])}


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
