"""Canary examples: what they change and what not, what is told of them, and what goes with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsec.engine.batches import BatchPlan
from fedsec.errors import InputError, ScenarioError
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.metrics.metric import METRICS
from fedsec.runs.datasets import look
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.scenario import load_scenario


def built(cell: Any) -> Experiment:
    return build_experiment(cell.config, device=torch.device("cpu"), threads=1)


def taken(plan: BatchPlan) -> list[int]:
    return [number for row, size in zip(plan.examples, plan.sizes, strict=True) for number in row[:size].tolist()]


def plans(experiment: Experiment, client: int) -> BatchPlan:
    federation: Any = experiment.federation
    streams = federation.streams
    return plan_client(federation.data, client, federation.algorithm.local, 1, streams)


def test_an_audit_changes_neither_account_nor_anybody_else(audited: Any, examples: dict[str, Any]) -> None:
    half = {"federation__local": {"steps": 2, "batch_fraction": 0.5, "lr": 0.5}}
    plain: Any = built(audited.cell({**examples, "audit": None}, **half)).federation
    experiment = built(audited.cell(examples, **half))
    federation: Any = experiment.federation
    assert torch.equal(federation.parameters, plain.parameters)
    assert federation.privacy.rounds == plain.privacy.rounds  # noise, rate and steps
    assert federation.privacy.ledger.delta == plain.privacy.ledger.delta
    assert federation.data.sizes([0, 1]).tolist() == plain.data.sizes([0, 1]).tolist()
    assert np.array_equal(federation.data.clients[1], plain.data.clients[1])
    assert experiment.counts == built(audited.cell({**examples, "audit": None}, **half)).counts
    ours, theirs = plans(experiment, 0), plan_client(plain.data, 0, plain.algorithm.local, 1, plain.streams)
    assert (ours.expected, ours.noise) == (theirs.expected, theirs.noise)


def test_slots_of_canaries_that_are_out_stay_empty_and_all_others_are_filled(
    audited: Any, examples: dict[str, Any]
) -> None:
    experiment = built(audited.cell(examples, federation__local={"steps": 3, "batch_fraction": 0.5, "lr": 0.5}))
    part: Any = experiment.audit.parts[0] if experiment.audit else None
    federation: Any = experiment.federation
    absent = set(part.numbers[~part.included].tolist())
    assert set(federation.data.absent[0].tolist()) == absent
    assert 30 < len(absent) < 70
    with_all = plan_client(
        type(federation.data)(**{**vars(federation.data), "absent": {}}),
        0,
        federation.algorithm.local,
        1,
        federation.streams,
    )
    assert taken(plans(experiment, 0)) == [number for number in taken(with_all) if number not in absent]
    assert absent & set(taken(with_all))


def test_without_dp_sgd_a_canary_that_is_out_is_not_there(audited: Any, examples: dict[str, Any]) -> None:
    experiment = built(
        audited.cell(examples, defense="mean", audit__canaries__client=[0, 1], audit__canaries__count=101)
    )
    part: Any = experiment.audit.parts[0] if experiment.audit else None
    data: Any = experiment.federation.data
    assert np.bincount(part.client_of).tolist() == [51, 50]
    assert not data.absent
    for client in (0, 1):
        mine = part.client_of == client
        held = np.isin(part.numbers[mine], data.clients[client])
        assert held.tolist() == part.included[mine].tolist()
        assert len(data.clients[client]) == 120 - int((~part.included[mine]).sum())


def test_one_step_without_noise_gives_nearly_every_coin_away(audited: Any, examples: dict[str, Any]) -> None:
    record = audited.run(examples, defense="mean", audit__canaries__kind="natural")
    audit, metrics = record["audit"]["canaries"], record["metrics"]
    bound = audit["bounds"]["white_box"]["approximate_dp"]
    assert bound["correct"] >= 0.95 * bound["guesses"] > 70
    assert metrics["epsilon_lower"] == audit["epsilon_lower"] > 2
    assert metrics["epsilon_lower_gaussian"] > metrics["epsilon_lower"]
    assert (audit["claim"], audit["delta"], audit["exceeds"]) == (None, 1e-5, False)
    assert {len(audit["included"]), len(audit["scores"]["loss"]), len(audit["clients"])} == {100}
    for name in ("epsilon_lower", "epsilon_lower_gaussian"):
        assert METRICS[name].better == "lower"
        assert "only audit.canaries of unit example" in METRICS[name].missing


def test_the_black_box_score_is_minus_the_loss_of_the_final_model(
    audited: Any, examples: dict[str, Any], tmp_path: Path
) -> None:
    experiment = built(audited.cell(examples))
    assert experiment.audit is not None
    experiment.audit.attach(experiment, tmp_path)
    part: Any = experiment.audit.parts[0]
    federation: Any = experiment.federation
    with torch.no_grad():
        federation.parameters.add_(torch.linspace(-1, 1, len(federation.parameters)))  # a model of which losses differ
        federation.trainer.layout.load(federation.module, federation.parameters)
        inputs, labels = federation.data.batch(torch.from_numpy(part.numbers))
        losses = torch.nn.functional.cross_entropy(federation.module(inputs), labels, reduction="none")
    assert losses.std() > 0.1
    assert np.allclose(part.scores()["loss"], -losses.numpy(), atol=1e-4)


def test_a_resumed_audit_has_the_same_numbers(
    audited: Any, examples: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audited.run(examples, "whole")
    audited.killed(examples, "resumed", 1, monkeypatch)
    assert audited.run(examples, "resumed")["audit"] == whole["audit"]


REFUSED = {
    "client 2 of 2": ({"audit__canaries__client": 2}, r"client: expected less than partition.clients = 2, got 2"),
    "a client twice": ({"audit__canaries__client": [1, 1]}, "expected at least one client, each of them once"),
    "a client's score": (
        {"audit__canaries__score": "final"},
        "expected white_box or loss of canaries that are examples",
    ),
    "a client's kind": ({"audit__canaries__kind": "direction"}, "expected mislabelled or dirac or blank or natural"),
    "a client's norm": ({"audit__canaries__norm": 1.0}, "examples send no updates"),
    "the inversion's client": (
        {"defense": "mean", "inversion": {"name": "inverting_gradients", "target": {"client": 0}}},
        "client 0 is whose images the inversion reconstructs",
    ),
    "members": ({"audit__membership": {}}, "changes examples that audit.membership takes for members"),
    "centralized": ({"federation__algorithm": "centralized", "defense": "mean"}, "centralized has no clients"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_canaries_is_refused_before_a_run(
    audited: Any, examples: dict[str, Any], case: str
) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(ScenarioError, match=message):
        audited.cell(examples, **changes)


def test_a_dry_run_knows_that_clients_are_too_small(audited: Any, examples: dict[str, Any]) -> None:
    scenario = load_scenario({**examples, "audit": {"canaries": {"count": 200}}})
    message = "audit.canaries.count: client 0 has 120 examples, and 200 of them were to be canaries"
    with pytest.raises(ScenarioError, match=message):
        look(scenario)


def test_what_only_the_data_tell_is_refused_before_the_first_round(audited: Any, examples: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="client 0 has 120 examples, and 150 of them were to be canaries"):
        audited.run(examples, audit__canaries__count=150)
    with pytest.raises(InputError, match=r"client: client \d is Byzantine"):
        audited.run(
            examples, attack={"name": "label_flip", "num_byzantine": 1}, audit__canaries__client="all", defense="mean"
        )
    with pytest.raises(InputError, match=r"5 canaries can show nothing at delta 1e-05 and confidence 0\.95"):
        audited.run(examples, audit__canaries__count=5)
