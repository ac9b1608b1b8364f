"""The membership part of a cell's audit: who is held out, what is seen and concluded, a kill that changes nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.data.images import normalize
from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.membership import gradient_products
from fedsec.runs.audits import shadow_cohort
from fedsec.runs.audits.membership import MembershipAudit
from fedsec.runs.audits.observed_models import ObservedModels
from fedsec.runs.cell import run_cell
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario
from fedsec.threat import rescaled_logits

CELL: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 150, "test_size": 40},
    "partition": {"name": "dirichlet", "alpha": 0.5, "clients": 3},
    "model": "mlp",
    "federation": {"rounds": 3, "local": {"epochs": 1, "batch_size": 10, "lr": 0.2}},
}
SMALL = {"members": 20, "nonmembers": 20, "shadow_models": 4, "population": 30}
CLIENT = {**SMALL, "view": "client", "inferences": ["loss_threshold", "trajectory", "lira_online", "rmia"]}
SERVER = {**SMALL, "members": 10, "nonmembers": 10, "view": "server", "victim": 1, "rounds": [1, 3]}
SERVER = {**SERVER, "inferences": ["gradient_cosine", "gradient_difference", "lira_offline"]}


def cell(membership: dict[str, Any], **more: Any) -> Any:
    (one,) = load_scenario({**CELL, **more, "audit": {"membership": membership}}).cells()
    return one


def experiment(membership: dict[str, Any], tmp_path: Path, **more: Any) -> tuple[Experiment, MembershipAudit]:
    built = build_experiment(cell(membership, **more).config, device=torch.device("cpu"), threads=1)
    assert built.audit is not None
    built.audit.attach(built, tmp_path)
    (part,) = built.audit.parts
    assert isinstance(part, MembershipAudit)
    return built, part


@pytest.fixture(autouse=True)
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than all else; one test looks at one."""
    if "[client]" not in request.node.name:
        monkeypatch.setattr(MembershipAudit, "_draw", lambda *_: None)


def run(membership: dict[str, Any], root: Path, **more: Any) -> dict[str, Any]:
    one = cell(membership, **more)
    return run_cell(one.config, one.axes, TaskSettings(root=root, device="cpu", threads=1), lambda *_: None)


@pytest.mark.parametrize("victim", ["all", 0])
def test_members_are_trained_on_and_non_members_are_held_out(victim: Any, tmp_path: Path) -> None:
    built, part = experiment({**SMALL, "victim": victim}, tmp_path)
    held = [set(client.tolist()) for client in built.federation.data.clients]
    everybody = set().union(*held)
    assert len(part.members) == len(part.nonmembers) == 20
    assert set(part.members.tolist()) <= (everybody if victim == "all" else held[0])
    assert not set(part.nonmembers.tolist()) & everybody
    assert len(everybody) == 150 - 20
    assert {part.owner[int(one)] for one in part.nonmembers} == ({0, 1, 2} if victim == "all" else {0})
    other = experiment({**SMALL, "victim": victim}, tmp_path, seed=1, partition={**CELL["partition"], "seed": 5})[1]
    assert set(other.members.tolist()) != set(part.members.tolist())


@pytest.mark.parametrize(
    ("membership", "message"),
    [
        ({"members": 140, "nonmembers": 20}, "asks for 140 members and 20 non-members of the clients' 150 examples"),
        ({"members": 10, "nonmembers": 80}, "no more non-members than half of them"),
        ({"members": 100, "nonmembers": 50, "victim": 0}, "of client 0's"),
    ],
)
def test_more_than_there_are_cannot_be_asked_about(membership: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        experiment(membership, tmp_path)


def test_the_observer_sees_each_round_and_what_the_client_sent(tmp_path: Path) -> None:
    built, part = experiment(SERVER, tmp_path)
    federation = built.federation
    assert isinstance(federation, Federation)
    everything = ObservedModels(federation, part.inputs, part.labels, (1, 2, 3), victim=None, gradients=False)
    inputs = normalize(part.inputs, federation.data.normalization)
    expected: list[Tensor] = []
    after: list[Tensor] = []
    products: list[Tensor] = []

    def logits(parameters: Tensor) -> Tensor:
        module = federation.module
        federation.trainer.layout.load(module, parameters)
        seen = rescaled_logits(module.eval()(inputs).detach(), part.labels)
        federation.trainer.layout.load(module, federation.parameters)
        return seen

    def watch(number: int, clients: Any, rows: Tensor) -> None:
        row = rows[list(clients).index(1)]
        if number in (1, 3):
            expected.append(logits(federation.parameters + row))
            sent = federation.trainer.start(federation.module)
            vector = -row / 0.2
            products.append(gradient_products(federation.trainer, sent, vector, part.inputs, part.labels)[0])

    federation.observers.append(watch)
    for _ in federation.run():
        everything.after()
        after.append(logits(federation.parameters))
    part.observed.finish()
    everything.finish()
    assert part.observed.rounds == (1, 3)
    assert torch.allclose(part.observed.logits, torch.stack(expected), atol=1e-4)
    assert part.observed.updates is not None
    assert torch.allclose(part.observed.updates.products, torch.stack(products), rtol=1e-3, atol=1e-4)
    assert everything.rounds == (1, 2, 3)
    assert torch.allclose(everything.logits, torch.stack(after), atol=1e-4)


@pytest.mark.parametrize("membership", [CLIENT, SERVER], ids=["client", "server"])
def test_a_cell_says_what_was_inferred_and_a_kill_changes_nothing(
    membership: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(membership, tmp_path / "whole")
    record, metrics = whole["audit"]["membership"], whole["metrics"]
    assert list(record["inferences"]) == membership["inferences"]
    first = record["inferences"][membership["inferences"][0]]
    assert metrics["membership_auc"] == first["auc"]["value"]
    assert metrics["membership_auc_blind"] == record["blind_auc"]["value"]
    assert metrics["membership_tpr_at_1pct_fpr"] is None
    assert any("cannot count an FPR of 0.01" in note for note in record["notes"])
    assert record["rounds"] == ([1, 2, 3] if membership is CLIENT else [1, 3])
    if membership is CLIENT:
        # 110 that surely were trained on, and half of the 40 candidates.
        assert (record["shadow_models"], record["shadow_examples"]) == (4, 130)
        assert (tmp_path / "whole" / whole["id"] / "audit" / "membership_roc.png").is_file()
    look = MembershipAudit.after

    def killed(self: MembershipAudit, result: Any) -> None:
        look(self, result)
        if result.round == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MembershipAudit, "after", killed)
        patch.setattr("fedsec.runs.cell.CHECKPOINT_SHARE", 0)
        with pytest.raises(KeyboardInterrupt):
            run(membership, tmp_path / "killed")
    assert json.dumps(run(membership, tmp_path / "killed")["audit"]) == json.dumps(whole["audit"])


def test_more_rounds_end_as_if_they_had_been_asked_for_at_once(tmp_path: Path) -> None:
    membership = {**SMALL, "view": "client", "rounds": 2, "inferences": ["trajectory"]}
    built, part = experiment(membership, tmp_path)
    for _ in built.federation.run():
        part.observed.after()
    part.observed.finish()
    assert part.observed.rounds == (2, 3)
    kept = part.state()
    listed = experiment({**membership, "rounds": [1, 2]}, tmp_path)
    for _ in listed[0].federation.run():
        listed[1].observed.after()
    listed[1].observed.finish()
    assert listed[1].observed.rounds == (1, 2)
    longer = experiment(membership, tmp_path, federation={**CELL["federation"], "rounds": 5})[1]
    longer.restore(kept)
    assert longer.observed.rounds == (2,)
    assert torch.equal(longer.observed.logits, kept["logits"][:1])


def test_secure_aggregation_does_not_hide_the_global_model(tmp_path: Path) -> None:
    federation = {**CELL["federation"], "secure_aggregation": {"clients": 3}}
    membership = {**SMALL, "view": "client", "inferences": ["trajectory"]}
    assert run(membership, tmp_path, federation=federation)["metrics"]["membership_auc"] is not None


def test_shadow_models_train_as_long_as_the_federation_and_know_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, part = experiment(SMALL, tmp_path)
    federation = built.federation
    assert isinstance(federation, Federation)
    initial = federation.parameters.clone()
    for _ in federation.run():
        pass
    asked: dict[str, Any] = {}

    def train(trainer: Any, start: Any, candidates: Any, members: Any, local: Any, **more: Any) -> None:
        asked.update(more, start=start, local=local)

    monkeypatch.setattr(shadow_cohort, "train_shadow_models", train)
    inside = part.shadows.halves(4, len(part.candidates), part.streams)
    part.shadows.train(part.candidates, inside, part.streams, victim=None, start=None)
    assert asked["rounds"] == federation.round == 3
    one, size = federation.algorithm.training, round(float(federation.data.sizes(range(federation.num_clients)).mean()))
    assert one is not None
    steps, batch = one.steps_of(size), min(one.batch_of(size) * federation.clients_per_round, part.shadows.examples)
    assert (asked["local"].steps, asked["local"].epochs, asked["local"].batch_size) == (steps, None, batch)
    assert torch.equal(asked["start"].parameters, initial)
    everybody = set(np.concatenate(federation.data.clients).tolist())
    assert set(asked["known"].tolist()) == everybody - set(part.candidates.tolist())
    part.shadows.train(part.candidates, inside, part.streams, victim=1, start=part.shadows.initial)
    own = set(federation.data.clients[1].tolist())
    assert asked["local"] == one
    assert (asked["rounds"], set(asked["known"].tolist())) == (1, own - set(part.candidates.tolist()))


def test_the_population_was_never_trained_on(tmp_path: Path) -> None:
    built, part = experiment(SMALL, tmp_path)
    assert len(part.population) == 30
    trained, test = (
        {row.numpy().tobytes() for row in split.inputs} for split in (built.dataset.train, built.dataset.test)
    )
    assert {row.numpy().tobytes() for row in part.population.inputs} <= test - trained


def test_training_that_learned_nothing_gives_nobody_away(tmp_path: Path) -> None:
    local = {"epochs": 1, "batch_size": 10, "lr": 1e-9}
    federation = {"rounds": 1, "local": local}
    many = {**SMALL, "members": 60, "nonmembers": 60, "inferences": ["loss_threshold", "lira_online"]}
    for inference in run(many, tmp_path, federation=federation)["audit"]["membership"]["inferences"].values():
        assert inference["auc"]["low"] <= 0.5 <= inference["auc"]["high"]


def test_a_server_finds_members_of_one_client_s_update(tmp_path: Path) -> None:
    small = {
        "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
        "partition": {"name": "iid", "clients": 2},
        "federation": {"rounds": 3, "local": {"epochs": 1, "batch_size": 15, "lr": 0.5}},
    }
    membership = {**SERVER, "members": 15, "nonmembers": 15, "rounds": 1, "inferences": ["gradient_cosine"]}
    record = run(membership, tmp_path, **small)["audit"]["membership"]
    assert record["inferences"]["gradient_cosine"]["auc"]["low"] > 0.5


def test_byzantine_clients_are_told_of(tmp_path: Path) -> None:
    attack = {"name": "label_flip", "num_byzantine": 1}
    built, part = experiment(SMALL, tmp_path, attack=attack)
    byzantine = built.threat.fixed
    assert not {part.owner[int(one)] for one in part.candidates} & byzantine
    assert any("of Byzantine clients are not asked about" in note for note in part.notes)
    (client,) = byzantine
    victim = {**SERVER, "members": 5, "nonmembers": 5, "victim": client}
    assert "is Byzantine" in experiment(victim, tmp_path, attack=attack)[1].notes[0]


def test_a_model_that_diverged_tells_nothing(tmp_path: Path) -> None:
    federation = {"rounds": 2, "local": {"epochs": 1, "batch_size": 10, "lr": 1e30}}
    record = run(SMALL, tmp_path, federation=federation)
    assert record["metrics"]["membership_auc"] is None
    assert "no longer finite" in record["audit"]["membership"]["notes"][0]


@pytest.mark.parametrize("algorithm", ["fedsgd", "scaffold"])
def test_other_algorithms_can_be_audited(algorithm: str, tmp_path: Path) -> None:
    federation = {"algorithm": algorithm, "rounds": 2}
    if algorithm == "scaffold":
        federation["local"] = {"epochs": 1, "batch_size": 10, "lr": 0.1}
    record = run({**SERVER, "rounds": 1}, tmp_path, federation=federation)["audit"]["membership"]
    assert set(record["inferences"]) == set(SERVER["inferences"])
    assert np.isfinite([one["auc"]["value"] for one in record["inferences"].values()]).all()
