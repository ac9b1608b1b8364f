"""A federation whose attackers know its defense: their reports reach the results, and runs resume to the bit."""

from pathlib import Path

import torch
from torch import Tensor

from fedsec.federation import Federation
from fedsec.federation.rounds import RoundResult
from fedsec.runs.experiment import build_experiment
from fedsec.runs.round_summary import over_rounds
from fedsec.scenario import load_scenario

SCENARIO = """
dataset: {name: digits, train_size: 120}
model: logistic
partition: {clients: 7}
federation: {rounds: 4, local: {steps: 2, batch_size: 8, lr: 0.1}}
attack: {name: auto, attacks: [alie, mimic, rop, sign_flip], num_byzantine: 2}
defense: [{name: bucketing, size: 2}, {name: centered_clipping, radius: 0.5}]
"""


def federation(folder: Path) -> Federation:
    file = folder / "known.yaml"
    file.write_text(SCENARIO)
    made = build_experiment(load_scenario(file).cells()[0].config, device=torch.device("cpu"), threads=1).federation
    assert isinstance(made, Federation)
    return made


def test_an_interrupted_run_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """Rule, ensemble and members remember; the defense and the attack draw."""
    whole, first, second = (federation(tmp_path) for _ in range(3))
    results: list[RoundResult] = [whole.play() for _ in range(4)]
    again = [first.play() for _ in range(2)]
    state: dict[str, Tensor] = {name: tensor.clone() for name, tensor in first.state().items()}
    second.restore(state, 2)
    again += [second.play() for _ in range(2)]
    assert [dict(result.attack) for result in results] == [dict(result.attack) for result in again]
    assert any("mimic" in name for name in state)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name
    report = over_rounds([{"attack": dict(result.attack)} for result in results])
    assert sum(report["attack"].values()) == 4
    assert set(report["attack"]) <= {"none", "alie", "mimic", "rop", "sign_flip"}
    assert report["damage"]["rounds"] == 4
