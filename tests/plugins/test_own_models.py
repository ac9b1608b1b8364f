"""Models of one's own run where whoever starts fedsec names them, and nowhere else."""

import sys
from pathlib import Path

import pytest

import fedsec
from fedsec.errors import InputError
from fedsec.plugins import own_models, registry
from fedsec.runs import InProcess
from fedsec.scenario import load_scenario

FACTORY = """
import torch
def net(input_shape, num_classes):
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))
"""
SCENARIO = {
    "name": "own",
    "dataset": {"name": "digits", "train_size": 60, "test_size": 30},
    "partition": {"clients": 3},
    "model": "nets_of_mine:net",
    "federation": {"rounds": 1},
}


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(own_models.VARIABLE, "")
    monkeypatch.delitem(sys.modules, "nets_of_mine", raising=False)


def test_a_scenario_alone_runs_no_code_of_anybodys() -> None:
    with pytest.raises(InputError, match=r"which a scenario file alone does not choose; .*FEDSEC_OWN_MODELS=nets_of"):
        load_scenario(SCENARIO)
    assert "nets_of_mine" not in sys.modules


def test_what_is_allowed_is_trained_and_a_change_of_its_code_is_noticed(tmp_path: Path) -> None:
    own_models.allow("nets_of_mine:net")
    own_models.allow("nets_of_mine:net")
    assert own_models.allowed() == ("nets_of_mine:net",)
    result = fedsec.run(SCENARIO, out=tmp_path / "runs", executor=InProcess())
    record = result.records[0]
    assert record["status"] == "done"
    assert record["parameters"] == 650
    assert record["made_with"]["code of model nets_of_mine:net"]
    assert registry.entry("model", "nets_of_mine:net").parameters == ()


@pytest.mark.parametrize("reference", ["nets_of_mine", ":net", "nets_of_mine:", "a b:c"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(InputError, match=r"expected package\.module:factory"):
        own_models.allow(reference)


def test_a_factory_that_is_not_there_is_said() -> None:
    own_models.allow("nets_of_mine:other")
    with pytest.raises(InputError, match="model 'nets_of_mine:other': cannot be imported: AttributeError"):
        registry.load("model", "nets_of_mine:other")
