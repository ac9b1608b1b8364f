"""The page on one's own code: its Python runs from top to bottom, other frameworks' hooks against stand-ins of them."""

import re
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.defenses import Median, MultiKrum

PAGE = Path(__file__).parents[1] / "docs" / "integration.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
REFERENCE = nn.Linear(3, 2).state_dict()
STATES = [
    {name: values + shift for name, values in REFERENCE.items()} for shift in (1.0, 2.0, 2.0, 3.0, 2.0, 2.0, 50.0)
]


class NvFlare:
    """What the recipe uses of NVFlare's `BaseFedAvg`."""

    def __init__(self, num_clients: int, num_rounds: int) -> None:
        self.num_clients, self.num_rounds, self.start_round = num_clients, num_rounds, 0
        self.saved: list[Any] = []

    def load_model(self) -> SimpleNamespace:
        return SimpleNamespace(params={name: values.numpy() for name, values in REFERENCE.items()}, current_round=None)

    def sample_clients(self, num_clients: int) -> list[str]:
        return [f"site-{number}" for number in range(num_clients)]

    def send_model_and_wait(self, targets: list[str], data: SimpleNamespace) -> list[SimpleNamespace]:
        shifts = (1.0, 2.0, 2.0, 3.0, 2.0, 2.0, 50.0)[: len(targets)]
        return [
            SimpleNamespace(params={name: values + np.float32(shift) for name, values in data.params.items()})
            for shift in shifts
        ]

    def info(self, message: str) -> None:
        assert "influence" in message

    def save_model(self, model: SimpleNamespace) -> None:
        self.saved.append(model.params)


class FedMl:
    """What the recipe uses of FedML's `ServerAggregator`."""

    def get_model_params(self) -> dict[str, torch.Tensor]:
        return REFERENCE


@pytest.fixture
def frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        "nvflare.app_common.workflows.base_fedavg": {"BaseFedAvg": NvFlare},
        "fedml.core": {"ServerAggregator": FedMl},
        "openfl.interface.aggregation_functions.core.interface": {"AggregationFunction": object},
    }
    for place, names in places.items():
        parts = place.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        for name, value in names.items():
            setattr(sys.modules[place], name, value)


@pytest.mark.usefixtures("frameworks")
def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    torch.manual_seed(0)
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    told = capsys.readouterr().out
    assert "gamma" in told
    assert """(9,) ("client 9: '4.bias' holds NaN or infinity",)""" in told
    assert "[2. 2.]" in told
    assert "LocalSteps(lr=0.5, steps=3" in told

    flare = names["RobustFedAvg"](7, 2, rule=Median())
    flare.run()
    assert np.allclose(flare.saved[-1]["bias"], REFERENCE["bias"] + 4)
    fedml = names["RobustAggregator"]()
    assert isinstance(fedml.rule, MultiKrum)
    torch.testing.assert_close(
        fedml.aggregate([(10, state) for state in STATES])["bias"], REFERENCE["bias"] + 2, atol=0.5, rtol=0
    )
    local = namedtuple("LocalTensor", ["col_name", "tensor", "weight"])
    tensors = [local(str(place), state["weight"].numpy(), 1.0) for place, state in enumerate(STATES)]
    middle = names["RobustTensors"]().call(tensors, None, "weight", 0, ())
    assert np.allclose(middle, REFERENCE["weight"] + 2)


def test_its_examples_exist() -> None:
    named = re.findall(r"examples/\w+\.py", PAGE.read_text())
    assert named
    assert all((PAGE.parents[1] / path).is_file() for path in named)
