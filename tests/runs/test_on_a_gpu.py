"""Cells of every kind run on a pretended GPU: no tensor stays behind on the CPU, and none goes where it must not."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from fedsec.engine.local_training import LocalTraining
from fedsec.inversion.invert import invert
from fedsec.membership import infer_membership
from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario
from tests.pretended_gpu import pretended_gpu

COMMON = """
dataset: {name: digits, train_size: 64, test_size: 20}
partition: {clients: 4}
"""
LOCAL = "rounds: 2, local: {steps: 1, batch_size: 8, lr: 0.1}"
CELLS = {
    "a robust rule": f"""
federation: {{algorithm: fedopt, declared_byzantine: 1, {LOCAL}}}
model: {{name: mlp, hidden: [4]}}
attack: {{name: alie, fraction: 0.25}}
defense: [{{name: clip, max_norm: 1.0}}, nnm, trimmed_mean]
""",
    "one client after the other": """
federation: {algorithm: fedavg, rounds: 2, local: {steps: 5, batch_size: 8, lr: 0.1, augmentation: standard}}
model: cnn
engine: {name: loop, precision: bf16, memory_format: channels_last}
""",
    "memory of clients, an attacker and a rule": f"""
federation: {{algorithm: feddyn, {LOCAL}}}
model: {{name: mlp, hidden: [4]}}
attack: {{name: mimic, fraction: 0.25}}
defense: {{name: centered_clipping, radius: 1.0}}
""",
    "asynchronous": f"federation: {{algorithm: async, {LOCAL}}}\nmodel: logistic\n",
    "gossip": f"federation: {{algorithm: decentralized, {LOCAL}}}\nmodel: logistic\n",
    "matched layers": f"federation: {{algorithm: fedma, {LOCAL}}}\nmodel: {{name: mlp, hidden: [4]}}\n",
    "personal layers": f"federation: {{algorithm: fedrep, {LOCAL}}}\nmodel: {{name: mlp, hidden: [4]}}\n",
    "knowledge": """
federation:
  algorithm: fedgkt
  rounds: 2
  local: {epochs: 1, batch_size: 16, lr: 0.1}
  server: {model: resnet7, epochs: 1, batch_size: 32, order: mixed}
model: resnet4
attack: {name: feature_poison, mode: shuffle, fraction: 0.25}
defense: knowledge_screening
""",
    "a cut network, and labels told from beyond it": f"""
federation: {{algorithm: split_learning, labels: server, {LOCAL}}}
model: {{name: mlp, hidden: [4]}}
defense: {{name: cut_noise, scale: 1.0}}
audit:
  labels: {{inferences: [label_norm, {{name: model_completion, adapt: true, steps: 1, iterations: 2}}], known: 1}}
""",
    "private examples with canaries": f"""
federation: {{algorithm: fedavg, {LOCAL}}}
model: {{name: mlp, hidden: [4]}}
defense: {{name: dp_sgd, noise_multiplier: 1.0, max_grad_norm: 1.0}}
audit: {{canaries: {{count: 12, delta: 0.001}}}}
""",
    "private clients and members": f"""
federation: {{algorithm: fedavg, {LOCAL}}}
model: {{name: mlp, hidden: [4]}}
defense: {{name: dp_fedavg, noise_multiplier: 1.0}}
audit:
  membership: {{inferences: [lira_online, rmia], members: 6, nonmembers: 6, population: 6, shadow_models: 4}}
""",
    "a curious server": f"""
federation: {{algorithm: fedavg, {LOCAL}}}
model: {{name: mlp, hidden: [4]}}
defense: {{name: prune, ratio: 0.5}}
inversion: {{name: inverting_gradients, iterations: 2, target: {{client: 0, rounds: [1]}}}}
""",
    "a malicious server": """
federation: {algorithm: fedsgd, rounds: 1}
model: {name: mlp, hidden: [4]}
inversion: {name: imprint, target: {client: 0, rounds: [1]}}
""",
}


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_and_its_continuation(kind: str, tmp_path: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(COMMON + CELLS[kind])
    first = load_scenario(content).cells()[0]
    settings, begun = TaskSettings(tmp_path, "cuda", 1), list[int]()
    with pretended_gpu():
        record = run_cell(first.config, {}, settings, lambda *told: None)
        assert record["environment"]["device"] == "pretended"
        if record["goes_on"]:
            content["federation"]["rounds"] += 1
            longer = load_scenario(content).cells()[0]
            run_cell(longer.config, {}, settings, lambda *told: None, origin=first.id, on_begin=begun.append)
            assert begun == [first.config.federation.rounds]


@pytest.mark.parametrize("place", ["examples", "the model", "both"])
def test_membership_in_models_of_anybody(place: str) -> None:
    inputs, labels = torch.rand(30, 6), torch.arange(30) % 3
    model = nn.Linear(6, 3)
    with pretended_gpu() as gpu:
        if place != "the model":
            inputs, labels = inputs.to(gpu), labels.to(gpu)
        if place != "examples":
            model = model.to(gpu)
        members, others, population = (
            (inputs[part], labels[part]) for part in (slice(10), slice(10, 20), slice(20, 30))
        )
        report = infer_membership(
            model,
            members,
            others,
            inferences=["loss_threshold", "lira_online", "rmia"],
            population=population,
            training=LocalTraining(epochs=1, batch_size=10, lr=0.1),
            shadow_models=4,
        )
    assert all(result.scores.isfinite().all() for result in report.results.values())


@pytest.mark.parametrize("inversion", ["labels", "imprint"])
def test_inversions_of_a_dataset(inversion: str) -> None:
    with pretended_gpu():
        result = invert(dataset="digits", inversion=inversion, batch_size=2, device="cuda")
    assert result is not None
