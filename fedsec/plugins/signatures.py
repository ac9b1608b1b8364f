"""What a class takes and what it is, read from its source: no import, so no torch.

The command line lists attacks, checks their options and writes a JSON Schema in a fraction of the
time that importing them would take. The price is that tables are dict literals and constructors use
simple annotations.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_Definition = ast.ClassDef | ast.FunctionDef
_HOPS = 10


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Expression:
    """A default that is no literal, as its source text."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor.

    Args:
        name: its name, the key in YAML.
        annotation: its type as source text with aliases spelled out.
        default: a literal, an `Expression`, or `REQUIRED`.
        about: what the docstring says about it.
    """

    name: str
    annotation: str
    default: Any
    about: str = ""

    def __str__(self) -> str:
        return f"{self.name} (required)" if self.default is REQUIRED else f"{self.name}={as_yaml(self.default)}"


@dataclass(frozen=True)
class Signature:
    """What source tells about a class or function.

    Args:
        summary: the docstring's first line.
        paper: what stands after `Reference:` in the docstring, or nothing.
        base: name of its first base class, or nothing.
        parameters: those of its constructor, in order.
    """

    summary: str
    paper: str
    base: str
    parameters: tuple[Parameter, ...]


def as_yaml(value: Any) -> str:
    """A value as one would write it in YAML: `[16, 32]`, `true`, `null`, `per_class`."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def table(module: str, variable: str) -> dict[str, Signature]:
    """The entries of a table such as ``ATTACKS: dict[str, type] = {"sign_flip": SignFlip}``.

    Raises:
        LookupError: there is no such file or table, or it is not a dict literal from text to names.
    """
    value = _Source.of(module).assigned(variable)
    if not isinstance(value, ast.Dict):
        raise LookupError(f"{module} has no table {variable} that is a dict literal")
    found = {}
    for key, item in zip(value.keys, value.values, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(item, ast.Name)):
            raise LookupError(f'{module}.{variable}: expected entries of the form "name": Class')
        found[key.value] = signature(module, item.id)
    return found


@cache
def signature(module: str, name: str) -> Signature:
    """What the source of a class or function says about it.

    Raises:
        LookupError: its source cannot be found.
    """
    source, node = _define(module, name)
    text = ast.get_docstring(node) or ""
    base = node.bases[0] if isinstance(node, ast.ClassDef) and node.bases else None
    base_name = ast.unparse(base).rpartition(".")[2] if base is not None else ""
    return Signature(text.partition("\n")[0].strip(), _reference(text), base_name, _documented(source, node))


@dataclass(frozen=True, eq=False)
class _Source:
    """A module's syntax tree."""

    module: str
    tree: ast.Module

    @staticmethod
    @cache
    def of(module: str) -> "_Source":
        return _Source(module, ast.parse(_file(module).read_text(encoding="utf-8")))

    def assigned(self, name: str) -> ast.expr | None:
        """The value that the module assigns to a name at its top level."""
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and any(
                isinstance(target, ast.Name) and target.id == name for target in targets
            ):
                return node.value
        return None

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """(module, name there) of each name that the module imports from another."""
        guarded = [item for node in self.tree.body if isinstance(node, ast.If) for item in node.body]
        return {
            alias.asname or alias.name: (node.module, alias.name)
            for node in [*guarded, *self.tree.body]
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module
            for alias in node.names
        }


def _file(module: str) -> Path:
    """A module's source file. `find_spec` imports the parents of what it looks for, so it sees the top one only."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is not None and not rest and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if rest and file.is_file():
                return file
    raise LookupError(f"no source of {module}")


def _define(module: str, name: str) -> tuple[_Source, _Definition]:
    """Follow imports to where a class or function is written."""
    where = module, name
    for _ in range(_HOPS):
        source = _Source.of(where[0])
        for node in source.tree.body:
            if isinstance(node, _Definition) and node.name == where[1]:
                return source, node
        further = source.imports.get(where[1])
        if further is None:
            break
        where = further
    raise LookupError(f"no source of {module}.{name}")


def _documented(source: _Source, node: _Definition) -> tuple[Parameter, ...]:
    about: dict[str, str] = {}
    for text in _docstrings(source, node):
        about = {**_arguments_section(text), **about}
    return tuple(replace(parameter, about=about.get(parameter.name, "")) for parameter in _parameters(source, node))


def _docstrings(source: _Source, node: _Definition) -> Iterator[str]:
    """The docstrings that may describe a parameter: the class's, its constructor's, its bases'."""
    yield ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                yield ast.get_docstring(item) or ""
        for home, base in _bases(source, node):
            yield from _docstrings(home, base)


def _arguments_section(docstring: str) -> dict[str, str]:
    """What the `Args:` section says about each parameter."""
    match = re.search(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)*)", docstring, re.MULTILINE)
    found: dict[str, str] = {}
    name = ""
    for line in match[1].splitlines() if match else []:
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
        if name and line.strip():
            found[name] = f"{found[name]} {line.strip()}" if name in found else line.partition(": ")[2].strip()
    return found


def _parameters(source: _Source, node: _Definition) -> Iterator[Parameter]:
    if isinstance(node, ast.FunctionDef):
        yield from _arguments(source, node.args, skip=0)
        return
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            yield from _arguments(source, item.args, skip=1)
            return
    is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    fields = {parameter.name: parameter for parameter in _inherited(source, node)}
    if is_dataclass:
        fields |= {parameter.name: parameter for parameter in _fields(source, node)}
    yield from fields.values()


def _inherited(source: _Source, node: ast.ClassDef) -> Iterator[Parameter]:
    for home, base in _bases(source, node):
        yield from _parameters(home, base)
        return


def _bases(source: _Source, node: ast.ClassDef) -> Iterator[tuple[_Source, _Definition]]:
    """The base classes that are fedsec's or the same package's; others (ABC, nn.Module) add no options."""
    own = ("fedsec", source.module.partition(".")[0])
    for base in node.bases:
        name = ast.unparse(base)
        home = source.imports.get(name)
        if home is not None and home[0].partition(".")[0] not in own:
            continue
        try:
            yield _define(source.module, name)
        except LookupError:
            continue


def _arguments(source: _Source, arguments: ast.arguments, skip: int) -> Iterator[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [*zip(positional, [*missing, *arguments.defaults], strict=True)][skip:]
    for argument, default in [*pairs, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        yield Parameter(argument.arg, _annotation(source, argument.annotation), _default(source, default))


def _fields(source: _Source, node: ast.ClassDef) -> Iterator[Parameter]:
    """The fields of a dataclass."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = _annotation(source, item.annotation)
            if not annotation.startswith(("ClassVar", "typing.ClassVar")):
                yield Parameter(item.target.id, annotation, _default(source, _of_field(item.value)))


def _of_field(value: ast.expr | None) -> ast.expr | None:
    """The default inside ``field(default=...)`` or ``field(default_factory=lambda: ...)``."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field")):
        return value
    for keyword in value.keywords:
        if keyword.arg == "default":
            return keyword.value
        if keyword.arg == "default_factory":
            return keyword.value.body if isinstance(keyword.value, ast.Lambda) else keyword.value
    return None


class _Aliases(ast.NodeTransformer):
    """Spells out the module's own type aliases."""

    def __init__(self, source: _Source) -> None:
        self.source = source

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = _constant(self.source, node.id)
        return value if isinstance(value, ast.Subscript | ast.BinOp) else node


def _annotation(source: _Source, node: ast.expr | None) -> str:
    if node is None:
        return "Any"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    return ast.unparse(_Aliases(source).visit(node))


def _default(source: _Source, node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    if isinstance(node, ast.Name):
        node = _constant(source, node.id) or node
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Expression(ast.unparse(node))


def _constant(source: _Source, name: str) -> ast.expr | None:
    """The value of a module-level name, here or where it was imported from."""
    for _ in range(_HOPS):
        value = source.assigned(name)
        further = source.imports.get(name) if value is None else None
        if further is None or further[0].partition(".")[0] != source.module.partition(".")[0]:
            return value
        source, name = _Source.of(further[0]), further[1]
    return None


def _reference(docstring: str) -> str:
    """The text after `Reference:`: the rest of that paragraph, or the first line of the section below it."""
    match = re.search(r"^[ \t]*References?:[ \t]*(.*)$((?:\n[ \t]*\S.*$)*)", docstring, re.MULTILINE)
    if match is None:
        return ""
    same, below = match[1].strip(), [line.strip() for line in match[2].splitlines() if line.strip()]
    return " ".join([same, *below]) if same else (below[0] if below else "")
