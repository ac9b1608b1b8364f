"""What a scenario leaves out must not keep it from learning."""

import pytest
import torch

from fedsec.runs.experiment import build_experiment
from fedsec.scenario import CellConfig


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_ten_rounds_with_defaults_learn_digits(model: str) -> None:
    config = CellConfig.model_validate({"dataset": "digits", "model": model})
    *_, last = build_experiment(config, device=torch.device("cpu"), threads=1).federation.run()
    assert last.round == 10
    assert (last.metrics["accuracy"] or 0) > 0.9
