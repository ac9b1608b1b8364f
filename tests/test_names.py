"""How the code is cut and named: one class a name, files and folders of a size to be read, nouns."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("fedsec", "attacks", "defenses")
LONGEST_MODULE = 400
LARGEST_FOLDER = 24
CATALOGS = ("attacks", "defenses")
"""Folders with a file for each method, of any number."""
MOST_TOP_MODULES = 8
NO_NOUNS = {"found", "each", "kept", "told", "made"}
"""Words that say what happened to a value and not what it is."""


def modules() -> list[Path]:
    """All modules, each once: `fedsec/attacks` and `fedsec/defenses` are links."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [path for path in paths if not any(parent.is_symlink() for parent in path.parents)]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def variables(node: ast.AST, *, in_class: bool = False) -> Iterator[tuple[int, str]]:
    """(line, name) of variables and arguments. Fields of classes are not among them: they are read behind a dot."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.lineno, child.id
        if isinstance(child, ast.arg):
            yield child.lineno, child.arg
        if in_class and isinstance(child, ast.AnnAssign | ast.Assign):
            continue
        yield from variables(child, in_class=isinstance(child, ast.ClassDef))


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(list)
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice


def test_variables_are_nouns() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules()
        for line, name in variables(tree(path))
        if name in NO_NOUNS
    ]
    assert not offenders, f"{len(offenders)} variables say what happened to them: " + ", ".join(offenders)


def test_variables_are_seen_wherever_they_are_bound() -> None:
    text = """
def f(a, *b, c=1, **d):
    e = [g for g in (h := a)]
    with a as i: pass
class K:
    l: int
    def m(n): o = 1
"""
    assert sorted(name for _, name in variables(ast.parse(text))) == list("abcdeghino")


def test_no_module_is_too_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules()}
    too_long = {name: length for name, length in lengths.items() if length > LONGEST_MODULE}
    assert not too_long, f"modules of more than {LONGEST_MODULE} lines: {too_long}"


def test_no_folder_is_too_full() -> None:
    sizes: dict[str, int] = defaultdict(int)
    for path in modules():
        if path.parent.name in CATALOGS:
            continue
        sizes[path.parent.relative_to(ROOT).as_posix()] += 1
    too_full = {folder: size for folder, size in sizes.items() if size > LARGEST_FOLDER}
    assert not too_full, f"folders of more than {LARGEST_FOLDER} modules, of {sum(sizes.values())}: {too_full}"
    assert sizes["fedsec"] <= MOST_TOP_MODULES, f"{sizes['fedsec']} modules at the top of fedsec"
