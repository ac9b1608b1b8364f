"""Defenses of clients that an audit tries: which of them a federation can have, where they stand, what they leave."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.assessment.answer import helped, wording
from fedsec.assessment.deployment import Deployment, deployment
from fedsec.assessment.difference import Estimate, exact_interval
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding
from fedsec.assessment.probes.client_defenses import INSPECT_MODEL, NOISE, PRIVATE, to_try
from fedsec.assessment.probes.epsilon import EpsilonProbe
from fedsec.assessment.probes.epsilon_server import ServerEpsilonProbe
from fedsec.assessment.probes.labels import LabelsProbe
from fedsec.assessment.probes.leakage import LeakageProbe
from fedsec.assessment.probes.malicious_server import MaliciousServerProbe
from fedsec.assessment.probes.membership import MembershipProbe
from fedsec.assessment.probes.probe import AuditProbe, CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.probes.sites import SitesProbe
from fedsec.assessment.settings import sections_of
from fedsec.auditing import ceiling
from fedsec.scenario import load_scenario

SMALL: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [8]},
    "data": "digits",
    "clients": 5,
    "partition": None,
    "algorithm": None,
    "rounds": 2,
    "clients_per_round": None,
    "local_epochs": 1,
    "local_steps": None,
    "batch_size": 16,
    "lr": 0.1,
}
NAME = "+ dp_sgd, epsilon 8"


def deployed(*defense: Any, **changed: Any) -> Deployment:
    return deployment(sections_of(**{**SMALL, "defense": list(defense) or None, **changed}, seed=0))


def test_they_stand_where_they_belong() -> None:
    assert to_try(deployed("sign", "median"), [PRIVATE, INSPECT_MODEL, NOISE]) == {
        NAME: [dict(PRIVATE), "sign"],
        "+ inspect_model": [dict(INSPECT_MODEL), "sign"],
        "+ gaussian_noise": ["sign", dict(NOISE)],
    }
    looks = {"name": "inspect_model", "d_snr": None, "exposed": None, "idle": None}
    assert to_try(deployed(looks, "median"), [PRIVATE]) == {NAME: [looks, dict(PRIVATE)]}


def test_what_a_federation_has_or_cannot_have_is_not_tried() -> None:
    assert to_try(deployed({**PRIVATE, "target_epsilon": 2.0}, "mean"), [PRIVATE]) == {}
    assert to_try(deployed("inspect_model", "mean"), [INSPECT_MODEL]) == {}
    # A refusal that depends on examples tells of them, which no epsilon covers.
    assert to_try(deployed("inspect_model", "mean"), [PRIVATE]) == {}


@pytest.mark.parametrize(
    "probe", [EpsilonProbe, ServerEpsilonProbe, LabelsProbe, LeakageProbe, MembershipProbe, SitesProbe]
)
def test_private_training_is_tried_where_there_is_time(probe: type[AuditProbe]) -> None:
    thorough, quick = (probe().cells(deployed(), Effort(1, thorough)) for thorough in (True, False))
    private = [cell for cell in thorough if NAME in cell.key]
    assert private
    assert not [cell for cell in quick if NAME in cell.key]
    assert {cell.sections["defense"][0]["name"] for cell in private} == {"dp_sgd"}
    assert all(cell.slower > 1 for cell in private)
    for cell in private:
        load_scenario({"name": "one", **cell.sections})


def outcome(
    cell: ProbeCell, audited: dict[str, Any], accuracy: float, epsilon: float | None, root: Path
) -> CellOutcome:
    metrics = {"accuracy_min_last5": accuracy, "epsilon": epsilon}
    return CellOutcome(cell, {"metrics": metrics, "audit": audited if "audit" in cell.sections else None}, root)


def answered(probe: AuditProbe, plain: dict[str, Any], private: dict[str, Any], root: Path) -> AuditFinding:
    """The finding where cells came to what is given."""
    federation = deployed()
    cells = probe.cells(federation, Effort(1, True))
    outcomes = [
        outcome(cell, private, 0.7, 7.9, root) if NAME in cell.key else outcome(cell, plain, 0.9, None, root)
        for cell in cells
    ]
    (finding,) = probe.findings(federation, CellOutcomes(outcomes))
    return finding


def test_what_private_training_leaves_and_costs_stands_beside_the_finding(tmp_path: Path) -> None:
    def site(observed: float, low: float, high: float) -> dict[str, Any]:
        null = {"chance": 0.2, "p": 0.001, "null_mean": 0.2, "null_95": [0.1, 0.3], "attempts": 10}
        return {"properties": {"site": {"observed": observed, "interval": [low, high], **null}}}

    finding = answered(SitesProbe(), site(0.9, 0.8, 0.95), site(0.3, 0.2, 0.4), tmp_path)
    (tried,) = finding.countermeasures
    assert (tried.name, tried.epsilon) == (NAME, 7.9)
    assert tried.setting == [dict(PRIVATE), "mean"]
    assert tried.effect.low == pytest.approx(0.0)
    assert tried.effect.high == pytest.approx(0.2)
    assert tried.cost is not None
    assert tried.cost.value == pytest.approx(-0.2)
    assert helped(finding) is tried


def test_a_bound_from_below_does_not_help_where_the_formal_epsilon_is_larger(tmp_path: Path) -> None:
    def bounded(bound: float) -> dict[str, Any]:
        about = {"count": 200, "ceiling": 6.0, "delta": 1e-5, "confidence": 0.95, "bounds": {}}
        return {"canaries": {"epsilon_lower": bound, **about}}

    finding = answered(EpsilonProbe(), bounded(3.0), bounded(0.1), tmp_path)
    (tried,) = finding.countermeasures
    assert tried.effect == Estimate(0.1, 0.1, 7.9)
    assert helped(finding) is None
    assert finding.left_text(tried) == "epsilon >= 0.10, formally at most 7.9"
    assert wording(finding, tried).startswith(
        "epsilon >= 0.10, formally at most 7.9, where epsilon >= 3.00 was shown without it, and costs 20.0"
    )


def test_canary_clients_can_show_something(tmp_path: Path) -> None:
    """At the delta that twenty clients have by default a hundred canaries are refused; the claim is the bound's."""
    federation, probe = deployed({"name": "dp_fedavg", "noise_multiplier": 1.0}, clients=20), EpsilonProbe()
    assert (
        ServerEpsilonProbe().obstacle(federation)
        == "whole clients are protected, and what is released to all bounds that"
    )
    (cell,) = probe.cells(federation, Effort(1, True))
    canaries = cell.sections["audit"]["canaries"]
    assert canaries["unit"] == "client"
    assert ceiling(canaries["count"], canaries["delta"], choices=2)["approximate_dp"] > 1
    about = {"count": 100, "epsilon_lower": 3.0, "ceiling": 3.5, "delta": 1e-5, "confidence": 0.95, "bounds": {}}
    audited = {"canaries": {**about, "claim": {"value": 2.5}}}
    done = CellOutcome(cell, {"metrics": {"user_epsilon": 99.0}, "audit": audited}, tmp_path)
    (finding,) = probe.findings(federation, CellOutcomes([done]))
    assert finding.severity == "critical"
    assert "above the formal 2.5" in finding.statement


def test_canary_clients_join_in_whole_numbers() -> None:
    private = {"name": "dp_fedavg", "noise_multiplier": 1.0}
    settings = {**SMALL, "defense": [private], "clients": 30, "clients_per_round": 7}
    federation = deployment(sections_of(**settings, seed=0), ["federation.sampling=poisson"])
    (cell,) = EpsilonProbe().cells(federation, Effort(1, True))
    assert cell.sections["audit"]["canaries"]["count"] == 120
    load_scenario({"name": "one", **cell.sections})


def test_the_server_tells_canaries_by_updates_and_others_by_the_last_model() -> None:
    scores = [
        probe().cells(deployed(), Effort(1, False))[0].sections["audit"]["canaries"]["score"]
        for probe in (EpsilonProbe, ServerEpsilonProbe)
    ]
    assert scores == ["loss", "white_box"]


def malicious(root: Path, answers: dict[bool, dict[str, Any]]) -> AuditFinding:
    """The finding where clients who look at what they receive, and those who do not, answered as is given."""
    federation, probe, outcomes = deployed(), MaliciousServerProbe(), []
    for place, cell in enumerate(probe.cells(federation, Effort(2, False))):
        folder = root / str(place)
        folder.mkdir(parents=True)
        line = {"round": 1, "leakage": answers["+ inspect_model" in cell.key]}
        (folder / "rounds.jsonl").write_text(json.dumps(line))
        outcomes.append(CellOutcome(cell, {"metrics": {}, "cell": {"seed": cell.seed}, "id": str(place)}, folder))
    (finding,) = probe.findings(federation, CellOutcomes(outcomes))
    return finding


def test_clients_that_look_refuse_what_a_malicious_server_made(tmp_path: Path) -> None:
    seen = {"images": 12, "metrics": {"psnr": 30.0, "psnr_gray": 9.0, "recovered": 0.5}}
    refused = {"metrics": None, "refused": True}
    finding = malicious(tmp_path / "blind", {False: seen, True: refused})
    assert "12 of 24 images" in finding.statement
    (tried,) = finding.countermeasures
    assert (tried.name, tried.effect) == ("+ inspect_model", exact_interval(0, 24))
    assert helped(finding) is tried
    passed = malicious(tmp_path / "unseen", {False: seen, True: {**seen, "refused": False}})
    assert passed.countermeasures[0].effect == exact_interval(12, 24)
    looking = malicious(tmp_path / "looking", {False: refused, True: refused})
    assert looking.severity == "none"
    assert "refused to train on it, with 2 of 2 seeds" in looking.statement
    assert looking.countermeasures == ()
