"""The pydantic types of options, from the source text of their annotations."""

import ast
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@cache
def option_type(annotation: str) -> "TypeAdapter[Any]":
    """The pydantic type of a simple annotation; what it cannot express is accepted as it is."""
    from pydantic import TypeAdapter

    return TypeAdapter(_type(ast.parse(annotation, mode="eval").body))


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
