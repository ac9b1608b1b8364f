"""Networks that an algorithm cannot federate are refused with the scenario, not when their cell's turn comes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fedsec.federation.algorithms import ALGORITHMS, FedPer
from fedsec.models import build
from fedsec.scenario import load_scenario
from fedsec.scenario.checks import check_scenario
from fedsec.scenario.training.fitting import misfits


@pytest.mark.parametrize(
    ("federation", "model", "place", "words"),
    [
        ("{algorithm: fedma}", "{name: resnet8, norm: gn}", "federation.algorithm: FedMA", "expected another model"),
        ("{algorithm: fednas}", "lenet", "federation.algorithm: FedNAS", "expected model darts_small"),
        ("{algorithm: fedbn, bn: local}", "mlp", "federation.algorithm: FedBN", "no normalization layer"),
        ("{algorithm: fedper, personal_layers: 9}", "mlp", "federation.personal_layers: the model has", "got 9"),
        ("{algorithm: fedrep, personal_layers: 2}", "mlp", "federation.personal_layers: the model has", "got 2"),
        ("{algorithm: split_learning, cut: 9}", "mlp", "federation.cut: ", "blocks"),
    ],
)
def test_misfits_are_refused_by_name_before_a_run(
    federation: str, model: str, place: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text(f"dataset: digits\nmodel: {model}\nfederation: {federation}\n")
    with pytest.raises(ValueError, match=r"sample\.yaml") as refusal:
        check_scenario(load_scenario(path))
    assert place in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ("fedbn", "fednas", "fedgkt")])
def test_a_network_that_fits_is_not_complained_about(name: str) -> None:
    with torch.device("meta"):
        network = build("mlp", (1, 8, 8), 10)
    assert misfits(network, ALGORITHMS[name]()) == []


def test_frozen_layers_are_no_part_of_what_is_asked() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    network[1].requires_grad_(False)
    assert misfits(network, FedPer(personal_layers=1)) == []
    ((place, message),) = misfits(network, FedPer(personal_layers=2))
    assert place == ("personal_layers",)
    assert "2 layers with weights, 2, 3" in message
