"""Every method's examples work: the scenario resolves, the Python runs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsec.plugins.method_page import method_page
from fedsec.plugins.registry import entries
from fedsec.scenario import load_scenario
from fedsec.scenario.checks import check_scenario

NAMES = [(kind, name) for kind in ("attack", "inversion", "inference", "defense") for name in entries(kind)]
SLOW = re.compile(r"\b(iterations|starts|hypotheses|steps)=\d+")


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_scenarios_resolve(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(method_page(kind, name).scenario)
    scenario = load_scenario(path)
    check_scenario(scenario)
    cells = scenario.cells()
    section: Any = getattr(cells[0].config, "audit" if kind == "inference" else kind)
    assert name in str(section)
    assert len(cells) == 1


@pytest.mark.parametrize("kind", ["dataset", "model", "partition", "algorithm"])
def test_what_else_scenarios_name_is_shown_in_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    for name in entries(kind):
        shown = method_page(kind, name).scenario
        path.write_text(shown)
        assert name in shown
        check_scenario(load_scenario(path))


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_python_runs(kind: str, name: str) -> None:
    page = method_page(kind, name)
    assert page.class_name in page.python
    torch.manual_seed(0)
    exec(compile(SLOW.sub(r"\1=2", page.python), f"{kind} {name}", "exec"), {})
