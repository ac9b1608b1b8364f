"""Benchmarks are not run by the tests; what they name must exist all the same."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if ".envs" not in path.parts)
"""Ours; peers lie in environments of their own."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_benchmarks_import_what_exists(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("fedsec"):
            continue
        module = import_module(str(node.module))
        for alias in node.names:
            if not hasattr(module, alias.name):
                import_module(f"{node.module}.{alias.name}")


def test_the_gpu_script_names_tests_and_scenarios_that_exist() -> None:
    text = (ROOT / "benchmarks" / "gpu.sh").read_text()
    named = [*re.findall(r"\btests/[\w/.]+", text), *re.findall(r"\bbenchmarks/\w+\.\w+", text)]
    named += [f"scenarios/{name}.yaml" for name in re.findall(r"^\s*reproduce (\w+)", text, re.MULTILINE)]
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
