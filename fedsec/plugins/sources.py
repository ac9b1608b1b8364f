"""Where classes are written and what they inherit, read from source: no import, so no torch.

Names are followed as Python would: through imports (relative ones, aliases, `import a.b as c`, `from a import *`),
re-exports, assignments (`Mine = Theirs`) and nested classes. Bases that lie in libraries known to hold no interface of
fedsec (the standard library, torch, ...) are not looked into.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Definition = ast.ClassDef | ast.FunctionDef
_HOPS = 30
_OPAQUE = frozenset(sys.stdlib_module_names) | {"jaxtyping", "numpy", "pydantic", "scipy", "sklearn", "torch"}
_OPAQUE |= {"lightning", "opacus", "timm", "torchvision", "transformers"}


@dataclass(frozen=True, eq=False)
class MethodSource:
    """A module's syntax tree.

    Args:
        module: its dotted name.
        is_package: whether it is a folder's `__init__.py`.
        tree: its syntax.
    """

    module: str
    is_package: bool
    tree: ast.Module

    @staticmethod
    @cache
    def of(module: str) -> "MethodSource":
        """A module's source.

        Raises:
            LookupError: it cannot be found, or is not to be looked into.
        """
        if module.partition(".")[0] in _OPAQUE:
            raise LookupError(f"{module} is not looked into")
        path = _file(module)
        return MethodSource(module, path.name == "__init__.py", ast.parse(path.read_text(encoding="utf-8")))

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """What runs when the module is imported, inside of `if`, `try` and `with` too."""
        return list(_flat(self.tree.body))

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """The module's own classes and functions."""
        return {node.name: node for node in reversed(self.statements) if isinstance(node, Definition)}

    @cached_property
    def assignments(self) -> dict[str, ast.expr]:
        """The first value that the module assigns to each name."""
        values: dict[str, ast.expr] = {}
        for node in self.statements:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in targets:
                    if isinstance(target, ast.Name):
                        values.setdefault(target.id, node.value)
        return values

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """(module, name there) of each imported name; no name where it stands for the module itself."""
        names: dict[str, tuple[str, str]] = {}
        for node in self.statements:
            if isinstance(node, ast.ImportFrom):
                names |= {alias.asname or alias.name: (self._from(node), alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    names[alias.asname or top] = (alias.name if alias.asname else top, "")
        return names

    @cached_property
    def starred(self) -> list[str]:
        """The modules from which it imports everything."""
        nodes = [node for node in self.statements if isinstance(node, ast.ImportFrom)]
        return [self._from(node) for node in nodes if any(alias.name == "*" for alias in node.names)]

    def _from(self, node: ast.ImportFrom) -> str:
        """The module that a statement imports from, relative ones made absolute."""
        if not node.level:
            return node.module or ""
        above = self.module.split(".")[: None if self.is_package else -1]
        above = above[: len(above) - (node.level - 1)]
        return ".".join([*above, *([node.module] if node.module else [])])


@dataclass(frozen=True)
class Written:
    """A class or function and the module that it is written in."""

    source: MethodSource
    node: Definition

    @property
    def path(self) -> tuple[str, str]:
        """Module and name; tells one class from another."""
        return self.source.module, self.node.name


@cache
def define(module: str, name: str) -> Written:
    """Follow a name to where its class or function is written.

    Args:
        module: where the name is used.
        name: as it stands there; it may be dotted.

    Raises:
        LookupError: its source cannot be found.
    """
    where, names = module, name.split(".")
    for _ in range(_HOPS):
        source = MethodSource.of(where)
        head, *rest = names
        if head in source.definitions:
            return Written(source, _nested(source.definitions[head], rest, f"{module}.{name}"))
        if source.imports.get(head) == (where, head) and rest:  # a package that imports a module of its own
            where, names = f"{where}.{head}", rest
        elif head in source.imports:
            further, attribute = source.imports[head]
            where, names = further, ([attribute, *rest] if attribute else rest)
        elif isinstance(value := source.assignments.get(head), ast.Name | ast.Attribute):
            names = [*ast.unparse(value).split("."), *rest]
        elif rest and _exists(f"{where}.{head}"):
            where, names = f"{where}.{head}", rest
        elif (star := next((other for other in source.starred if _offers(other, head)), None)) is not None:
            where = star
        else:
            break
        if names == [head, *rest] and where == source.module:
            break
        if len(names) > 1 and where != source.module and _is_submodule(where, names[0]):
            where, names = f"{where}.{names[0]}", names[1:]
        if not names:
            break
    raise LookupError(f"no source of {module}.{name}")


@cache
def lineage(module: str, name: str) -> tuple[Written, ...]:
    """A class and all that it inherits from, in the order in which Python looks attributes up.

    Bases whose source is not looked into are left out.

    Raises:
        LookupError: the class's source cannot be found, or its bases contradict each other.
    """
    written = define(module, name)
    if not isinstance(written.node, ast.ClassDef):
        return (written,)
    lines = [list(lineage(*base.path)) for base in _bases(written) if base.path != written.path]
    return (written, *_merged([*lines, [line[0] for line in lines]], f"{module}.{name}"))


def class_attributes(classes: Sequence[Written]) -> dict[str, Any]:
    """The class attributes with literal values, by name; `classes` as `lineage` gives them."""
    values: dict[str, Any] = {}
    for written in reversed(classes):
        for item in written.node.body:
            target = item.targets[0] if isinstance(item, ast.Assign) else getattr(item, "target", None)
            if isinstance(item, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and item.value is not None:
                try:
                    values[target.id] = ast.literal_eval(item.value)
                except ValueError:
                    values.pop(target.id, None)
    return values


def _flat(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for node in statements:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _flat(node.body)
            for handler in getattr(node, "handlers", []):
                yield from _flat(handler.body)
            for rest in ("orelse", "finalbody"):
                yield from _flat(getattr(node, rest, []))


def _nested(node: Definition, names: Sequence[str], what: str) -> Definition:
    for name in names:
        inner = [item for item in node.body if isinstance(item, ast.ClassDef) and item.name == name]
        if not inner:
            raise LookupError(f"no source of {what}")
        node = inner[0]
    return node


def _bases(written: Written) -> Iterator[Written]:
    """The bases that can be read; `Base[T]` is `Base`."""
    for base in written.node.bases if isinstance(written.node, ast.ClassDef) else ():
        expression = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(expression, ast.Name | ast.Attribute):
            try:
                yield define(written.source.module, ast.unparse(expression))
            except (LookupError, SyntaxError, OSError):
                continue


def _merged(lines: list[list[Written]], what: str) -> Iterator[Written]:
    """Python's own order (C3) of several lines of ancestors."""
    while lines := [line for line in lines if line]:
        for line in lines:
            first = line[0]
            if not any(first.path == other.path for rest in lines for other in rest[1:]):
                break
        else:
            raise LookupError(f"{what} inherits from classes whose orders contradict each other")
        yield first
        for line in lines:
            if line[0].path == first.path:
                del line[0]


def _file(module: str) -> Path:
    """A module's source file. `find_spec` imports the parents of what it looks for, so it sees the top one only."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and not rest and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if rest and file.is_file():
                return file
    raise LookupError(f"no source of {module}")


def _exists(module: str) -> bool:
    try:
        return bool(_file(module))
    except LookupError:
        return False


def _is_submodule(module: str, name: str) -> bool:
    """Whether a name of a package is a module in its folder and nothing that it defines or imports."""
    try:
        source = MethodSource.of(module)
    except (LookupError, SyntaxError, OSError):
        return _exists(f"{module}.{name}")
    known = name in source.definitions or name in source.imports or name in source.assignments
    return not known and _exists(f"{module}.{name}")


def _offers(module: str, name: str) -> bool:
    """Whether a module has a public name, for `from module import *`."""
    try:
        source = MethodSource.of(module)
    except (LookupError, SyntaxError, OSError):
        return False
    own = name in source.definitions or name in source.assignments or name in source.imports
    return not name.startswith("_") and (own or any(_offers(other, name) for other in source.starred))
