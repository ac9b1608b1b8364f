"""A name in YAML -> a class: the built-in tables first, then entry points of installed plugins.

Everything but `load` works on source text (`fedsec.plugins.signatures`) and imports neither torch nor pydantic.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedsec.errors import InputError, with_article
from fedsec.plugins import own_models
from fedsec.plugins.pages import page_of, where_to_read
from fedsec.plugins.paper_names import PAPERS_NAMES
from fedsec.plugins.signatures import REQUIRED, Expression, Parameter, Signature, rows, signature, table

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["KINDS", "REQUIRED", "Entry", "Kind", "Parameter"]
__all__ += ["check", "entries", "entry", "load", "names", "nearest", "problems"]


@dataclass(frozen=True)
class Kind:
    """One kind of things that scenarios name: where its table is, and what plugins and methods of it must be.

    Args:
        module: where the table of built-ins is written.
        variable: the table's name.
        group: the entry-point group of plugins.
        noun: what messages call one of them.
        interfaces: `module:class` of the bases of which it must have one, whatever stands in between; nothing where
            any class or function will do.
        given: constructor parameters that the engine fills in; not options.
    """

    module: str
    variable: str
    group: str
    noun: str
    interfaces: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "attack": Kind(
        "fedsec.attacks",
        "ATTACKS",
        "fedsec.attacks",
        "attack by Byzantine clients",
        tuple(f"fedsec.threat:{what}Poisoning" for what in ("Data", "Update", "Knowledge", "Activation")),
    ),
    "inversion": Kind(
        "fedsec.attacks",
        "INVERSIONS",
        "fedsec.inversions",
        "inversion by a curious server",
        (
            *("fedsec.threat:Inversion", "fedsec.threat:FeatureInversion", "fedsec.threat:MaliciousServer"),
            "fedsec.threat:HijackingServer",
            "fedsec.threat.texts:TextInversion",
        ),
    ),
    "inference": Kind(
        "fedsec.attacks",
        "INFERENCES",
        "fedsec.inferences",
        "inference by an observer of training",
        ("fedsec.threat:MembershipInference", "fedsec.threat:PropertyInference", "fedsec.threat:LabelInference"),
    ),
    "defense": Kind(
        "fedsec.defenses",
        "DEFENSES",
        "fedsec.defenses",
        "defense",
        (
            "fedsec.defense:RuleWrapper",
            "fedsec.defense:PrivateAggregator",
            "fedsec.defense:Aggregator",
            "fedsec.defense:PreAggregator",
            "fedsec.defense:UpdateTransform",
            "fedsec.defense:LocalDefense",
            "fedsec.defense:ModelInspector",
            "fedsec.defense:KnowledgeDefense",
            "fedsec.defense:ActivationDefense",
        ),
        given=("rule",),
    ),
    "dataset": Kind(
        "fedsec.data.datasets",
        "DATASETS",
        "fedsec.datasets",
        "dataset",
        ("fedsec.data.sources.source:Source",),
    ),
    "model": Kind("fedsec.models", "MODELS", "fedsec.models", "model", given=("input_shape", "num_classes")),
    "partition": Kind(
        "fedsec.data.partitions",
        "PARTITIONS",
        "fedsec.partitions",
        "partition",
        ("fedsec.data.partitions:Partition",),
    ),
    "algorithm": Kind(
        "fedsec.federation.algorithms",
        "ALGORITHMS",
        "fedsec.algorithms",
        "algorithm",
        ("fedsec.federation.algorithms:Algorithm",),
        given=("private",),
    ),
    "task": Kind("fedsec.tasks", "TASKS", "fedsec.tasks", "task", ("fedsec.tasks:Task",), given=("num_classes",)),
    "metric": Kind(
        "fedsec.metrics.measures", "MEASURES", "fedsec.metrics", "metric", ("fedsec.metrics.measure:Measure",)
    ),
}

_MANY = 40
"""Names that nobody reads where the nearest one is told."""
_METHODS = ("attack", "inversion", "inference", "defense")
"""Kinds whose names are easily taken for one another's."""
_PLACES = {"inference": "audit"}
"""Kind -> the key of a scenario under which it stands, where that is not its name."""


@dataclass(frozen=True)
class Entry:
    """One thing that a scenario can name.

    Args:
        name: in YAML.
        kind: a key of `KINDS`.
        summary: one line.
        paper: its source, or nothing.
        interface: the class of fedsec that it implements (`DataPoisoning`, `Aggregator`, ...), or nothing for kinds
            without one.
        role: the interface's `role`: on what it acts, or where in a round.
        parameters: its options.
        plugin: the distribution it comes from, or nothing for a built-in.
        traits: the class attributes that are literals, such as an algorithm's traits.
        path: (module, class) where it is written, or a plugin's entry point finds it.
    """

    name: str
    kind: str
    summary: str
    paper: str
    interface: str
    role: str
    parameters: tuple[Parameter, ...]
    plugin: str = ""
    traits: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    path: tuple[str, str] = field(default=("", ""), repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The entry as plain data, for machines."""
        parameters = []
        for parameter in self.parameters:
            option: dict[str, Any] = {"name": parameter.name, "type": parameter.annotation, "about": parameter.about}
            option["required"] = parameter.default is REQUIRED
            if (default := parameter.default) is not REQUIRED:
                option["default"] = str(default) if isinstance(default, Expression) else default
            parameters.append(option)
        about = {"name": self.name, "summary": self.summary, "paper": self.paper}
        place = {"interface": self.interface or None, "role": self.role or None, "plugin": self.plugin or None}
        proven = {name: self.traits[name] for name in ("guarantee",) if self.traits.get(name)}
        return {**about, **place, **proven, "parameters": parameters}


def entries(kind: str, *, plugins: bool = True) -> dict[str, Entry]:
    """Everything of a kind by name, built-ins first.

    Raises:
        InputError: a plugin is called like a built-in, cannot be read, or is nothing of this kind.
    """
    known = dict(_built_in(kind))
    for name, point in (_plugins(kind) if plugins else {}).items():
        module, _, attribute = point.value.partition(":")
        try:
            source = signature(module, attribute)
        except (LookupError, SyntaxError, OSError) as error:
            raise InputError(f"plugin {name!r} of {_origin(point)}: cannot read {point.value}: {error}") from error
        known[name] = replace(_entry(kind, name, source, _origin(point)), path=(module, attribute))
    if kind == "model":
        known |= {name: Entry(name, kind, "A model of one's own.", "", "", "", ()) for name in own_models.allowed()}
    return known


def names(kind: str, *, plugins: bool = True) -> list[str]:
    """The names of everything of a kind, built-ins first; what is behind them is not read, so this takes a moment.

    Raises:
        InputError: a plugin is called like a built-in.
    """
    return [*_names(kind), *(_plugins(kind) if plugins else ())]


def entry(kind: str, name: str, *, also: Iterable[str] = ()) -> Entry:
    """One entry by name.

    Args:
        kind: a key of `KINDS`.
        name: in YAML.
        also: further known names, for the message.

    Raises:
        InputError: unknown; the text lists the known names and the nearest match.
    """
    known = entries(kind)
    if name in known:
        return known[name]
    for other in _METHODS if kind in _METHODS else ():
        if name in entries(other):
            what = f"{name!r} is no {KINDS[kind].noun} but {with_article(KINDS[other].noun)}"
            raise InputError(f"{what}; expected it under `{_PLACES.get(other, other)}`")
    if kind == "model" and ":" in name:
        raise InputError(own_models.refusal(name))
    raise InputError(unknown(kind, name, [*also, *known]))


def load(kind: str, name: str) -> Any:
    """The class behind a name; this imports it.

    Raises:
        InputError: unknown, or a plugin that cannot be imported or is not what its source said.
    """
    if name in _built_in(kind):
        return getattr(import_module(KINDS[kind].module), KINDS[kind].variable)[name]
    known = entry(kind, name)
    if kind == "model" and name in own_models.allowed():
        return own_models.factory(name)
    point = _plugins(kind)[name]
    try:
        loaded = point.load()
    except Exception as error:
        raise InputError(f"plugin {name!r} of {known.plugin} cannot be imported: {error}") from error
    if not callable(loaded):
        raise InputError(f"plugin {name!r} of {known.plugin}: {point.value} is no class; expected one, or a function")
    return loaded


def check(kind: str, name: str, options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Options validated against the constructor's annotations, defaults filled in.

    Args:
        kind: a key of `KINDS`.
        name: in YAML.
        options: as given.
        where: key path of the options, for messages.

    Raises:
        InputError: unknown name, unknown, missing or mistyped options; one line for each.
    """
    resolved, wrong = problems(entry(kind, name), options)
    if wrong:
        prefix = f"{where}." if where else ""
        raise InputError("\n".join(f"{prefix}{key}: {message}" for key, message in wrong))
    return resolved


def problems(
    known: Entry, options: Mapping[str, Any], also: Iterable[str] = ()
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Validate options like `check`, but return what is wrong instead of raising it.

    Args:
        known: whose options they are.
        options: as given.
        also: keys that are known beside the options, for the nearest match.

    Returns:
        The resolved options, and (option, message) for each mistake.
    """
    from pydantic import ValidationError

    from fedsec.plugins.option_types import option_type
    from fedsec.plugins.wording import expected

    wrong, resolved = [], {}
    names = [parameter.name for parameter in known.parameters]
    for key in options:
        if key not in names:
            hint = keys_hint(key, [*names, *also])
            wrong.append((key, f"unknown key for {known.kind} {known.name!r}{hint}; see {where_to_read_of(known)}"))
    for parameter in known.parameters:
        adapter = option_type(parameter.annotation)
        if parameter.name in options:
            value = options[parameter.name]
            try:
                resolved[parameter.name] = adapter.validate_python(value)
            except ValidationError:
                wrong.append((parameter.name, expected(adapter.json_schema(), value)))
        elif parameter.default is REQUIRED:
            schema = adapter.json_schema()
            wrong.append((parameter.name, f"is required by {known.kind} {known.name!r}; {expected(schema)}"))
        elif not isinstance(parameter.default, Expression):
            resolved[parameter.name] = adapter.validate_python(parameter.default)
    return resolved, wrong


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    close = difflib.get_close_matches(name.lower(), list(known), 1, cutoff=0.55)
    return close[0] if close else None


def keys_hint(key: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)", or else the known keys."""
    names = list(known)
    close = nearest(key, names)
    return f" (did you mean {close!r}?)" if close else f"; known keys: {', '.join(names) or 'none'}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message about a name that is not in a table."""
    names = list(known)
    close = nearest(name, names)
    hint = f" (did you mean {close!r}?)" if close else ""
    if kind == "algorithm" and name.lower() in PAPERS_NAMES:
        hint = f" (it is {PAPERS_NAMES[name.lower()]})"
    short = name if len(name) <= 60 else f"{name[:57]}..."
    listed = "" if close and len(names) > _MANY else f"; known: {', '.join(names)}"
    return f"unknown {kind} {short!r}{hint}{listed}; see {where_to_read(kind)}"


def where_to_read_of(known: Entry) -> str:
    """What an error about one entry ends with: the command that explains it, and the page about its like."""
    return f"fedsec show {known.name}, {page_of(known.kind, known.interface)}"


def _entry(kind: str, name: str, source: Signature, plugin: str = "") -> Entry:
    options = tuple(parameter for parameter in source.parameters if parameter.name not in KINDS[kind].given)
    interface, role = _interface(kind, source)
    if not interface and KINDS[kind].interfaces:
        whose = f"plugin {name!r} of {plugin}" if plugin else f"{name!r}"
        raise InputError(f"{whose}: {_misplaced(kind, source)}")
    return Entry(
        name, kind, source.summary, source.paper, interface, role, options, plugin, source.traits, source.lineage[0]
    )


def _interface(kind: str, source: Signature) -> tuple[str, str]:
    """Name and role of the nearest interface of a kind that a class inherits from; nothing where there is none."""
    known = _interfaces(kind)
    return next((known[path] for path in source.lineage if path in known), ("", ""))


@cache
def _interfaces(kind: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Where each interface of a kind is written -> its name and its role."""
    known = {}
    for interface in KINDS[kind].interfaces:
        module, _, name = interface.partition(":")
        source = signature(module, name)
        known[source.lineage[0]] = name, str(source.traits.get("role", ""))
    return known


def _misplaced(kind: str, source: Signature) -> str:
    """Why a class is nothing of a kind: it is of another, or of none that fedsec would carry out."""
    what = f"{'.'.join(source.lineage[0])} is no {KINDS[kind].noun}"
    for other, where in KINDS.items():
        if other != kind and _interface(other, source)[0]:
            return f"{what} but {with_article(where.noun)}; expected it in the entry-point group {where.group}"
    names = [interface.partition(":")[2] for interface in KINDS[kind].interfaces]
    return f"{what}; expected a subclass of {' or '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}"


@cache
def _built_in(kind: str) -> dict[str, Entry]:
    sources = table(KINDS[kind].module, KINDS[kind].variable)
    return {name: _entry(kind, name, source) for name, source in sources.items()}


@cache
def _names(kind: str) -> list[str]:
    return list(rows(KINDS[kind].module, KINDS[kind].variable))


@cache
def _plugins(kind: str) -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points

    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=KINDS[kind].group):
        if point.name in _names(kind) or point.name == "none":
            raise InputError(f"plugin {_origin(point)} calls its {kind} {point.name!r}, which is a built-in name")
        if point.name in points:
            raise InputError(
                f"{kind} {point.name!r} comes from both {_origin(points[point.name])} and {_origin(point)}"
            )
        points[point.name] = point
    return points


def _origin(point: "EntryPoint") -> str:
    return point.dist.name if point.dist is not None else point.value
