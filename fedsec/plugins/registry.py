"""A name in YAML -> a class: the built-in tables first, then entry points of installed plugins.

Everything but `load` works on source text (`fedsec.plugins.signatures`) and imports neither torch nor pydantic.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedsec.errors import InputError
from fedsec.plugins.signatures import REQUIRED, Expression, Parameter, Signature, signature, table

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import TypeAdapter

__all__ = [
    "KINDS",
    "REQUIRED",
    "Entry",
    "Parameter",
    "check",
    "entries",
    "entry",
    "inversions",
    "load",
    "nearest",
    "problems",
    "update_transforms",
]


@dataclass(frozen=True)
class _Table:
    module: str
    variable: str
    group: str | None = None
    given: tuple[str, ...] = ()
    """Constructor parameters that the engine fills in; not options."""


KINDS: dict[str, _Table] = {
    "attack": _Table("fedsec.attacks", "ATTACKS", group="fedsec.attacks"),
    "defense": _Table("fedsec.defenses", "DEFENSES", group="fedsec.defenses"),
    "dataset": _Table("fedsec.data.datasets", "DATASETS"),
    "model": _Table("fedsec.models", "MODELS", given=("input_shape", "num_classes")),
    "partition": _Table("fedsec.data.partitions", "PARTITIONS"),
    "algorithm": _Table("fedsec.federation.algorithms", "ALGORITHMS"),
    "metric": _Table("fedsec.metrics.measures", "MEASURES", group="fedsec.metrics"),
}


@dataclass(frozen=True)
class Entry:
    """One thing that a scenario can name.

    Args:
        name: in YAML.
        kind: a key of `KINDS`.
        summary: one line.
        paper: its source, or nothing.
        base: the interface it implements (`DataPoisoning`, `CoordinateRule`, ...).
        parameters: its options.
        plugin: the distribution it comes from, or nothing for a built-in.
    """

    name: str
    kind: str
    summary: str
    paper: str
    base: str
    parameters: tuple[Parameter, ...]
    plugin: str = ""

    def as_json(self) -> dict[str, Any]:
        """The entry as plain data, for machines."""
        parameters = []
        for parameter in self.parameters:
            told: dict[str, Any] = {"name": parameter.name, "type": parameter.annotation, "about": parameter.about}
            told["required"] = parameter.default is REQUIRED
            if not told["required"]:
                given = parameter.default
                told["default"] = str(given) if isinstance(given, Expression) else given
            parameters.append(told)
        told = {"name": self.name, "summary": self.summary, "paper": self.paper, "interface": self.base}
        return {**told, "plugin": self.plugin or None, "parameters": parameters}


def entries(kind: str, *, plugins: bool = True) -> dict[str, Entry]:
    """Everything of a kind by name, built-ins first.

    Raises:
        InputError: a plugin is called like a built-in, or cannot be read.
    """
    where = KINDS[kind]
    found = {name: _entry(kind, name, told) for name, told in _built_in(kind).items()}
    for name, point in (_plugins(kind) if plugins and where.group else {}).items():
        module, _, attribute = point.value.partition(":")
        try:
            told = signature(module, attribute)
        except (LookupError, SyntaxError, OSError) as error:
            raise InputError(f"plugin {name!r} of {_origin(point)}: cannot read {point.value}: {error}") from error
        found[name] = _entry(kind, name, told, _origin(point))
    return found


def inversions() -> dict[str, Entry]:
    """The attacks that reconstruct images or labels from an update, by name."""
    return {name: found for name, found in entries("attack").items() if found.base == "Inversion"}


def update_transforms() -> dict[str, Entry]:
    """The defenses that a client applies to its own update, by name."""
    return {name: found for name, found in entries("defense").items() if found.base == "UpdateTransform"}


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
    if name not in known:
        raise InputError(unknown(kind, name, [*also, *known]))
    return known[name]


def load(kind: str, name: str) -> Any:
    """The class behind a name; this imports it.

    Raises:
        InputError: unknown, or a plugin that cannot be imported.
    """
    where = KINDS[kind]
    if name in _built_in(kind):
        return getattr(import_module(where.module), where.variable)[name]
    point = _plugins(kind).get(name) if where.group else None
    if point is None:
        entry(kind, name)
        raise InputError(f"{kind} {name!r} cannot be loaded")
    try:
        return point.load()
    except Exception as error:
        raise InputError(f"plugin {name!r} of {_origin(point)} cannot be imported: {error}") from error


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

    from fedsec.plugins.wording import expected

    wrong, resolved = [], {}
    names = [parameter.name for parameter in known.parameters]
    for key in options:
        if key not in names:
            wrong.append((key, f"unknown key for {known.kind} {known.name!r}{keys_hint(key, [*names, *also])}"))
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


@cache
def option_type(annotation: str) -> "TypeAdapter[Any]":
    """The pydantic type of a simple annotation; what it cannot express is accepted as it is."""
    from pydantic import TypeAdapter

    return TypeAdapter(_type(ast.parse(annotation, mode="eval").body))


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
    short = name if len(name) <= 60 else f"{name[:57]}..."
    return f"unknown {kind} {short!r}{hint}; known: {', '.join(names)}"


def _entry(kind: str, name: str, told: Signature, plugin: str = "") -> Entry:
    options = tuple(parameter for parameter in told.parameters if parameter.name not in KINDS[kind].given)
    return Entry(name, kind, told.summary, told.paper, told.base, options, plugin)


@cache
def _built_in(kind: str) -> dict[str, Signature]:
    return table(KINDS[kind].module, KINDS[kind].variable)


@cache
def _plugins(kind: str) -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=KINDS[kind].group or ""):
        if point.name in _built_in(kind) or point.name == "none":
            raise InputError(f"plugin {_origin(point)} calls its {kind} {point.name!r}, which is a built-in name")
        if point.name in found:
            raise InputError(f"{kind} {point.name!r} comes from both {_origin(found[point.name])} and {_origin(point)}")
        found[point.name] = point
    return found


def _origin(point: "EntryPoint") -> str:
    return point.dist.name if point.dist is not None else point.value


def _type(node: ast.expr) -> Any:
    """An annotation's syntax as a type in which text is not a number, a number not a truth value, and so on."""
    from pydantic import StrictBool, StrictInt, StrictStr

    from fedsec.plugins.wording import FiniteFloat

    if isinstance(node, ast.Constant):
        return _type(ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.BinOp):
        return _type(node.left) | _type(node.right)
    name = ast.unparse(node.value if isinstance(node, ast.Subscript) else node).rpartition(".")[2]
    if not isinstance(node, ast.Subscript):
        simple = {"int": StrictInt, "float": FiniteFloat, "str": StrictStr, "bool": StrictBool, "dict": dict[str, Any]}
        return simple.get(name, list[Any] if name in _LISTS else Any)
    items = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        from typing import Literal

        return Literal[tuple(ast.literal_eval(item) for item in items)]
    if name == "Optional":
        return _type(items[0]) | None
    if name == "tuple" and ast.unparse(items[-1]) != "...":
        return tuple[tuple(_type(item) for item in items)]  # type: ignore[misc]
    if name in _LISTS:
        return list[_type(items[0])]  # type: ignore[misc]
    return dict[str, _type(items[-1])] if name in ("dict", "Mapping") else Any  # type: ignore[misc]


_LISTS = ("list", "tuple", "Sequence", "Iterable")
