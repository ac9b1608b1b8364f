"""What a class takes and what it is, read from its source: no import, so no torch.

The command line lists attacks, checks their options and writes a JSON Schema in a fraction of the
time that importing them would take. The price is that tables are dict literals and constructors use
simple annotations.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fedsec.plugins.sources import MethodSource, Written, class_attributes, lineage

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
        lineage: (module, name) of the class and of all that it inherits from, in the order of attribute look-up.
        traits: its class attributes that are literals, inherited ones included.
        parameters: those of its constructor, in order.
    """

    summary: str
    paper: str
    lineage: tuple[tuple[str, str], ...]
    traits: Mapping[str, Any]
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
    return {name: signature(module, written) for name, written in rows(module, variable).items()}


def rows(module: str, variable: str) -> dict[str, str]:
    """Likewise, but the classes by the names under which the table has them: nothing else is read.

    Raises:
        LookupError: there is no such file or table, or it is not a dict literal from text to names.
    """
    value = MethodSource.of(module).assignments.get(variable)
    if not isinstance(value, ast.Dict):
        raise LookupError(f"{module} has no table {variable} that is a dict literal")
    written = {}
    for key, item in zip(value.keys, value.values, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(item, ast.Name)):
            raise LookupError(f'{module}.{variable}: expected entries of the form "name": Class')
        written[key.value] = item.id
    return written


@cache
def signature(module: str, name: str) -> Signature:
    """What the source of a class or function says about it.

    Raises:
        LookupError: its source cannot be found.
    """
    classes = lineage(module, name)
    text = ast.get_docstring(classes[0].node) or ""
    about: dict[str, str] = {}
    for docstring in _docstrings(classes):
        about = {**_arguments_section(docstring), **about}
    parameters = (replace(option, about=about.get(option.name, "")) for option in _parameters(classes))
    lines = tuple(written.path for written in classes)
    summary, paper = text.partition("\n")[0].strip(), _reference(text)
    return Signature(summary, paper, lines, class_attributes(classes), tuple(parameters))


def _docstrings(classes: Sequence[Written]) -> Iterator[str]:
    """The docstrings that may describe a parameter: each class's and its constructor's, the nearest first."""
    for written in classes:
        yield ast.get_docstring(written.node) or ""
        if (constructor := _constructor(written)) is not None:
            yield ast.get_docstring(constructor) or ""


def _arguments_section(docstring: str) -> dict[str, str]:
    """What the `Args:` section says about each parameter."""
    match = re.search(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)*)", docstring, re.MULTILINE)
    about: dict[str, str] = {}
    name = ""
    for line in match[1].splitlines() if match else []:
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
        if name and line.strip():
            about[name] = f"{about[name]} {line.strip()}" if name in about else line.partition(": ")[2].strip()
    return about


def _parameters(classes: Sequence[Written]) -> Iterator[Parameter]:
    """Those of the first constructor that Python finds; what it hands on to its bases included."""
    for index, written in enumerate(classes):
        source, node = written.source, written.node
        if isinstance(node, ast.FunctionDef):
            yield from _arguments(source, node.args, skip=0)
            return
        constructor = _constructor(written)
        if constructor is not None:
            own = list(_arguments(source, constructor.args, skip=1))
            yield from own
            if _hands_on(constructor):
                known = {parameter.name for parameter in own}
                yield from (option for option in _parameters(classes[index + 1 :]) if option.name not in known)
            return
        if _is_dataclass(node):
            fields: dict[str, Parameter] = {}
            for ancestor in reversed(classes[index:]):
                if isinstance(ancestor.node, ast.ClassDef) and _is_dataclass(ancestor.node):
                    fields |= {field.name: field for field in _fields(ancestor.source, ancestor.node)}
            yield from fields.values()
            return


def _constructor(written: Written) -> ast.FunctionDef | None:
    body = written.node.body if isinstance(written.node, ast.ClassDef) else []
    return next((item for item in body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)


def _hands_on(constructor: ast.FunctionDef) -> bool:
    """Whether a constructor passes its ``**options`` to ``super().__init__``."""
    options = constructor.args.kwarg
    return options is not None and any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "super().__init__"
        and any(keyword.arg is None and ast.unparse(keyword.value) == options.arg for keyword in node.keywords)
        for node in ast.walk(constructor)
    )


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _arguments(source: MethodSource, arguments: ast.arguments, skip: int) -> Iterator[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [*zip(positional, [*missing, *arguments.defaults], strict=True)][skip:]
    for argument, default in [*pairs, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        yield Parameter(argument.arg, _annotation(source, argument.annotation), _default(source, default))


def _fields(source: MethodSource, node: ast.ClassDef) -> Iterator[Parameter]:
    """The fields of a dataclass that its constructor takes."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = _annotation(source, item.annotation)
            if not annotation.startswith(("ClassVar", "typing.ClassVar")) and not _left_out(item.value):
                yield Parameter(item.target.id, annotation, _default(source, _of_field(item.value)))


def _left_out(value: ast.expr | None) -> bool:
    """Whether a field is none of the constructor's: ``field(init=False)``."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return any(keyword.arg == "init" and ast.unparse(keyword.value) == "False" for keyword in keywords)


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

    def __init__(self, source: MethodSource) -> None:
        self.source = source

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = _constant(self.source, node.id)
        return value if isinstance(value, ast.Subscript | ast.BinOp) else node


def _annotation(source: MethodSource, node: ast.expr | None) -> str:
    if node is None:
        return "Any"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    return ast.unparse(_Aliases(source).visit(node))


def _default(source: MethodSource, node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    if isinstance(node, ast.Name):
        node = _constant(source, node.id) or node
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Expression(ast.unparse(node))


def _constant(source: MethodSource, name: str) -> ast.expr | None:
    """The value of a module-level name, here or where it was imported from."""
    for _ in range(_HOPS):
        value = source.assignments.get(name)
        further = source.imports.get(name) if value is None else None
        if further is None or not further[1] or further[0].partition(".")[0] != source.module.partition(".")[0]:
            return value
        source, name = MethodSource.of(further[0]), further[1]
    return None


def _reference(docstring: str) -> str:
    """The text after `Reference:`: the rest of that paragraph, or the first line of the section below it."""
    match = re.search(r"^[ \t]*References?:[ \t]*(.*)$((?:\n[ \t]*\S.*$)*)", docstring, re.MULTILINE)
    if match is None:
        return ""
    same, below = match[1].strip(), [line.strip() for line in match[2].splitlines() if line.strip()]
    return " ".join([same, *below]) if same else (below[0] if below else "")
