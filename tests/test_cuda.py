"""A GPU computes what a CPU computes: every method's example, and the cells of what is shipped, on both.

Models after two rounds may differ by rounding, which training amplifies; a wrong formula, a forgotten step or other
noise moves them by far more than the limits below. Without a GPU all of it is skipped; `FEDSEC_SECOND_DEVICE=cpu` runs
it there, to see that the comparison itself works.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fedsec.arithmetic import arithmetic
from fedsec.errors import FedsecError
from fedsec.plugins.method_page import method_page
from fedsec.plugins.registry import entries
from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.shipped import shipped_scenarios

DEVICE = os.environ.get("FEDSEC_SECOND_DEVICE", "cuda" if torch.cuda.is_available() else "")
pytestmark = pytest.mark.skipif(not DEVICE, reason="no CUDA GPU")
KINDS = ("algorithm", "attack", "defense", "inversion", "inference")
METHODS = [(kind, name) for kind in KINDS for name in entries(kind)] if DEVICE else [("algorithm", "fedavg")]
EMBEDDED = ("digits", "diabetes", "shakespeare", "photos")
CAPS = {"iterations": 20, "steps": 20, "starts": 2, "models": 4, "shadow_models": 4, "epochs": 1, "candidates": 64}
MODEL, ACCURACY = 0.02, 0.03
"""Largest difference of models, as a share of their norm, and of accuracies."""
CHAOTIC = {"defense max_norm"}
"""What makes rounding as large as the largest gradient: the smallest of a batch, which are nothing but rounding, are
stretched to its length. Adding 1e-9 to the gradients on a CPU moves the example's model by as much, 6%."""


def small(content: Any) -> Any:
    """The same cell with a budget of seconds: what only makes a method stronger is cut down."""
    if isinstance(content, Mapping):
        cut = {
            key: min(value, CAPS[key]) if key in CAPS and isinstance(value, int) else small(value)
            for key, value in content.items()
        }
        if isinstance(content.get("rounds"), int):
            cut["rounds"] = min(content["rounds"], 2)
        elif "rounds" in content:  # those of a target
            cut["rounds"] = sorted({min(number, 2) for number in content["rounds"] or ()})
        return cut
    return [small(entry) for entry in content] if isinstance(content, list) else content


def covering(path: Path) -> Iterator[CellConfig]:
    """As few cells of a scenario as show every value of its axes."""
    seen: set[tuple[str, str]] = set()
    for cell in load_scenario(path).cells():
        values = {(axis, value) for axis, value in cell.axes.items() if axis != "seed"}
        if cell.config.dataset.name in EMBEDDED and not values <= seen:
            seen |= values
            yield cell.config


def finished(config: CellConfig, folder: Path, device: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The record and the model of a cell."""
    settings = TaskSettings(folder, device, threads=1)
    with arithmetic(device):
        record = run_cell(config, {}, settings, lambda *_: None, made_with={"code": "this"})
    model = folder / config.id / "model.safetensors"
    return record, load_file(model) if model.exists() else {}


def compare(config: CellConfig, folder: Path, name: str) -> None:
    """One cell on both devices."""
    began = time.perf_counter()
    expected, reference = finished(config, folder / "cpu", "cpu")
    between = time.perf_counter()
    actual, model = finished(config, folder / "gpu", DEVICE)
    ended = time.perf_counter()
    distance = apart(reference, model)
    numbers = {
        key: (value, actual["metrics"].get(key))
        for key, value in expected["metrics"].items()
        if value != actual["metrics"].get(key) and "seconds" not in key
    }
    log = os.environ.get("FEDSEC_CUDA_LOG")
    if log:
        seconds = {"cpu": between - began, "gpu": ended - between}
        line = {"name": name, **seconds, "distance": distance, "numbers": numbers}
        with Path(log).open("a") as file:
            file.write(json.dumps(line) + "\n")
    assert expected["metrics"].keys() == actual["metrics"].keys()
    assert distance < (0.2 if name in CHAOTIC else MODEL), f"models differ by {distance:.1%} of their norm; {numbers}"
    if "accuracy" in numbers:
        assert numbers["accuracy"][1] == pytest.approx(numbers["accuracy"][0], abs=ACCURACY)


def apart(reference: Mapping[str, torch.Tensor], model: Mapping[str, torch.Tensor]) -> float:
    """The distance of two models as a share of the first one's norm; what is nowhere finite in both is equal."""
    assert reference.keys() == model.keys()
    first, second = (
        torch.cat([torch.zeros(1, dtype=torch.float64), *(state[name].double().flatten() for name in sorted(state))])
        for state in (reference, model)
    )
    assert torch.equal(first.isfinite(), second.isfinite())
    first, second = first.nan_to_num(0, 0, 0), second.nan_to_num(0, 0, 0)
    return ((second - first).norm() / first.norm().clamp_min(1e-12)).item()


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_examples_of_methods(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(method_page(kind, name).scenario)
    compare_small(load_scenario(path).cells()[0].config, tmp_path, f"{kind} {name}")


@pytest.mark.parametrize("name", shipped_scenarios() if DEVICE else ["quickstart"])
def test_cells_of_shipped_scenarios(name: str, tmp_path: Path) -> None:
    for number, config in enumerate(covering(shipped_scenarios()[name])):
        folder = tmp_path / str(number)
        folder.mkdir()
        compare_small(config, folder, f"{name} {config.id}")


def compare_small(config: CellConfig, folder: Path, name: str) -> None:
    """The cell made small, or as it is where it cannot be smaller."""
    try:
        config = CellConfig.model_validate(small(config.model_dump(mode="json")))
    except (FedsecError, ValueError) as error:
        print("as it is:", error)
    compare(config, folder, name)
