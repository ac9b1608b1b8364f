"""Cells of probes become one scenario, and its file is the same cells again."""

from functools import cache
from pathlib import Path

import pytest

from fedsec.assessment.cells import scenario_of, scenario_text
from fedsec.assessment.deployment import Deployment, deployment
from fedsec.assessment.effort import LEVELS, Effort
from fedsec.assessment.probes import PROBES, AuditProbe
from fedsec.assessment.probes.sites import SitesProbe
from fedsec.assessment.settings import sections_of
from fedsec.errors import InputError
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario

NOTHING = dict.fromkeys(
    (
        *("model", "data", "clients", "partition", "algorithm", "rounds", "clients_per_round", "local_epochs"),
        *("local_steps", "batch_size", "lr", "defense"),
    )
)


@cache
def deployed(*defense: str) -> Deployment:
    return deployment(sections_of(**{**NOTHING, "defense": list(defense) or None}, seed=3))


@pytest.mark.parametrize("probe", PROBES)
def test_a_probes_file_has_the_cells_that_were_run(probe: type[AuditProbe], tmp_path: Path) -> None:
    for federation in (deployed(), deployed("sign", "median")):
        cells = probe().cells(federation, Effort(1, False))
        alone = [load_scenario(scenario_of("one", "", [cell.sections])).cells()[0].id for cell in cells]
        path = tmp_path / "finding.yaml"
        scenario = scenario_of("finding", "its cells", [cell.sections for cell in cells])
        path.write_text(scenario_text(scenario, ["a head"]))
        assert [cell.id for cell in load_scenario(path).cells()] == list(dict.fromkeys(alone))
        assert {cell.seed for cell in cells} == {3}


@pytest.mark.parametrize("probe", PROBES)
def test_less_effort_is_no_more_work(probe: type[AuditProbe]) -> None:
    counts = [len(probe().cells(deployed(), effort)) for effort in (LEVELS[0], LEVELS[1], LEVELS[4])]
    assert counts == sorted(counts, reverse=True)


def test_clients_defenses_stay_whatever_rule_is_tried() -> None:
    federation = deployed("sign", "median")
    assert federation.client_defenses == ["sign"]
    assert federation.rule == ["median"]
    assert federation.received("update") == "update"
    assert federation.with_rule(["krum"]) == ["sign", "krum"]


def test_what_is_no_federation_of_classes_is_told_why() -> None:
    deployed = deployment(
        sections_of(**{**NOTHING, "data": "diabetes", "model": "linear", "partition": "iid", "lr": 0.01}, seed=0)
    )
    assert all(probe().obstacle(deployed) for probe in PROBES)


def test_under_secure_aggregation_every_probe_has_cells_or_says_why_not() -> None:
    federation = {"federation": {"secure_aggregation": {"clients": 5}}}
    deployed = deployment({**sections_of(**NOTHING, seed=0), **federation})
    assert SitesProbe().obstacle(deployed) == "the server sees sums of clients only, and no single updates"
    assert deployed.received("update") == "sum of 5 updates, among them the one"
    for probe in PROBES:
        for effort in () if probe().obstacle(deployed) else (LEVELS[0], LEVELS[-1]):
            cells = [cell.sections for cell in probe().cells(deployed, effort)]
            check_scenario(load_scenario(scenario_of("sums", "", cells)))


def test_where_layers_stay_with_clients_nobody_asks_a_whole_model() -> None:
    deployed = deployment({**sections_of(**NOTHING, seed=0), "federation": {"algorithm": "fedper", "rounds": 3}})
    obstacles = {probe.name: probe().obstacle(deployed) for probe in PROBES}
    whole = {name for name, obstacle in obstacles.items() if obstacle and obstacle.startswith("it asks a whole model")}
    assert whole == {"membership", "epsilon", "epsilon-server"}
    (probe,) = (probe for probe in PROBES if probe.name == "sites")
    cells = [cell.sections for cell in probe().cells(deployed, LEVELS[-1])]
    check_scenario(load_scenario(scenario_of("personal", "", cells)))


CLIPPED, SMOOTHED = (
    {"epochs": 1, "batch_size": 16, name: value} for name, value in (("clip_norm", 1.0), ("label_smoothing", 0.1))
)


@pytest.mark.parametrize(
    ("federation", "labels", "server"),
    [
        ({"algorithm": "fedavg", "local": CLIPPED}, "", "it reads sizes off the gradient, which clients cut"),
        ({"algorithm": "fedavg", "local": SMOOTHED}, "", "it reads sizes off the gradient of the plain loss"),
        (
            {"algorithm": "fedper"},
            "labels are read from the last layer, which fedper leaves",
            "it needs the model that",
        ),
        ({"algorithm": "ditto"}, "", ""),
    ],
)
def test_what_inversions_can_do_is_tried_and_else_it_is_said_why_not(
    federation: dict[str, object], labels: str, server: str
) -> None:
    deployed = deployment({**sections_of(**NOTHING, seed=0), "federation": {"rounds": 3, **federation}})
    probes = {probe.name: probe() for probe in PROBES}
    assert probes["leakage"].obstacle(deployed) is None
    for name, reason in (("labels", labels), ("malicious-server", server)):
        obstacle = probes[name].obstacle(deployed)
        assert obstacle is None if not reason else (obstacle or "").startswith(reason)
    cells = [cell.sections for cell in probes["leakage"].cells(deployed, LEVELS[-1])]
    scenario = load_scenario(scenario_of("kept", "", cells))
    check_scenario(scenario)
    granted = {cell.config.inversion.knowledge.labels for cell in scenario.cells() if cell.config.inversion}
    assert (True in granted) == (federation["algorithm"] == "fedper")


@pytest.mark.parametrize(
    ("local", "reason"),
    [
        ({"epochs": 1, "optimizer": "adam"}, "adam divides every step"),
        ({"steps": 3}, "batches of local.steps run over"),
    ],
)
def test_what_cannot_be_replayed_is_named(local: dict[str, object], reason: str) -> None:
    federation = {"rounds": 3, "local": {"batch_size": 16, **local}}
    deployed = deployment({**sections_of(**NOTHING, seed=0), "federation": federation})
    for probe in PROBES:
        if probe.name in ("leakage", "labels", "malicious-server"):
            assert (probe().obstacle(deployed) or "").startswith(reason)


def test_attackers_are_the_audits_business() -> None:
    with pytest.raises(InputError, match="attack: who attacks is the audit's business"):
        deployment({**sections_of(**NOTHING, seed=0), "attack": {"name": "sign_flip", "fraction": 0.2}})
