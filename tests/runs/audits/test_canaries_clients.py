"""Canary clients: how they join, what they send, and what is told of them."""

from typing import Any

import numpy as np
import pytest
import torch

from fedsec.errors import InputError, ScenarioError
from fedsec.runs.audits.canaries_clients import evidence
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.threat.rows import finite_rows


def built(cell: Any) -> Experiment:
    return build_experiment(cell.config, device=torch.device("cpu"), threads=1)


def attached(cell: Any, folder: Any) -> tuple[Any, Any]:
    experiment = built(cell)
    assert experiment.audit is not None
    experiment.audit.attach(experiment, folder)
    return experiment.federation, experiment.audit.parts[0]


def test_canary_clients_join_at_the_rate_that_is_declared(audited: Any, clients: dict[str, Any]) -> None:
    half = {"federation__clients_per_round": 10}
    plain: Any = built(audited.cell({**clients, "audit": None}, **half)).federation
    federation: Any = built(audited.cell(clients, **half)).federation
    assert (federation.num_clients, federation.clients_per_round) == (120, 60)
    assert federation.releases.cost.sample_rate == plain.releases.cost.sample_rate == 0.5
    for number in range(1, 6):  # whoever was drawn without an audit is drawn with it
        assert [client for client in federation.sample(number) if client < 20] == plain.sample(number)
    assert torch.equal(federation.parameters, plain.parameters)


def test_included_ones_send_a_direction_as_long_as_the_bound_and_others_nothing(
    audited: Any, clients: dict[str, Any], tmp_path: Any
) -> None:
    federation, part = attached(audited.cell(clients), tmp_path)
    plain: Any = built(audited.cell({**clients, "audit": None})).federation
    everybody = list(range(federation.num_clients))
    rows = federation.local_updates(federation.start(everybody), everybody, 1).updates
    honest = plain.local_updates(plain.start(list(range(20))), list(range(20)), 1).updates
    assert torch.equal(rows[:20], honest)
    lengths = torch.linalg.vector_norm(rows[20:], dim=1)
    assert torch.allclose(lengths, 0.1 * torch.from_numpy(part.included).float())
    assert bool(finite_rows(rows).all())
    cosines = part.directions @ part.directions.T - torch.eye(100)
    assert float(cosines.abs().max()) < 0.25  # 650 parameters


def test_rounds_speak_for_who_was_in_when_few_are_drawn() -> None:
    """A step of one is telling; a step against the direction is no more telling than none."""
    steps = np.array([1.0, 0.1, 0.0, -0.1, 0.05, -0.05, -1.0])
    likelier = evidence(steps, 0.2)
    assert np.argmax(likelier) == 0
    assert np.all(likelier[1:] < 0)
    assert np.isclose(likelier[-1], np.log(0.8))
    assert np.all(np.diff(evidence(np.sort(steps), 1.0)) > 0)


def test_without_any_defense_nearly_everybody_is_told_and_an_estimate_stands_beside(
    audited: Any, clients: dict[str, Any]
) -> None:
    record = audited.run(clients, defense="mean", audit__canaries__norm=0.1)
    audit = record["audit"]["canaries"]
    bound = audit["bounds"]["white_box"]["approximate_dp"]
    assert bound["correct"] >= 0.95 * bound["guesses"]
    assert record["metrics"]["user_epsilon_lower"] == audit["epsilon_lower"] > 2
    assert audit["claim"] is None
    assert audit["estimate"]["canaries"] == sum(audit["included"])
    assert "epsilon_lower" not in record["metrics"]


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_resumed_audit_has_the_same_numbers(
    audited: Any, clients: dict[str, Any], adaptive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = {"name": "dp_fedavg", "noise_multiplier": 1.0, "delta": 1e-5, "quantile": 0.5, "clip_norm": 0.1}
    base = {**clients, **({"defense": moving} if adaptive else {})}
    whole = audited.run(base, "whole")
    audited.killed(base, "resumed", 1, monkeypatch)
    assert audited.run(base, "resumed")["audit"] == whole["audit"]


def test_more_directions_than_there_is_memory_for_are_refused(
    audited: Any, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsec.runs.audits.canaries_part.free_bytes", lambda device: 10**6)
    message = r"100 canaries of 650 parameters each take 1\.0 MiB, and 977 KiB are free"
    with pytest.raises(InputError, match=message):
        audited.run(clients)


def test_what_does_not_go_with_canary_clients_is_refused(audited: Any, clients: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="nothing says how long a canary client's update is; expected a norm, or"):
        audited.cell(clients, defense="mean")
    with pytest.raises(ScenarioError, match="canary clients hold no examples"):
        audited.cell(clients, audit__canaries__client=1)
    with pytest.raises(ScenarioError, match=r"10 canaries at the rate of 3 in 20 clients .* expected a multiple of 20"):
        audited.cell(clients, federation__clients_per_round=3, audit__canaries__count=10)
    with pytest.raises(InputError, match="canary clients send one update each as it is, and remember none"):
        audited.run(
            clients,
            defense="mean",
            audit__canaries__norm=1.0,
            federation={"algorithm": "scaffold", "rounds": 1, "local": {"steps": 1, "batch_size": 3}},
        )
