"""A dry run refuses what a cell would refuse when it begins."""

from typing import Any

import pytest
import torch

from fedsec.errors import ScenarioError
from fedsec.runs.datasets import look
from fedsec.runs.rehearsals import rehearsal
from fedsec.runs.rehearsals.choice import reasons
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario

SPLIT = {"algorithm": "split_learning", "labels": "server", "rounds": 1, "local": {"batch_size": 8, "epochs": 1}}
HIJACK = {"name": "feature_hijacking", "knowledge": {"auxiliary": 10}}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "a defense that the hijacker would apply": (
        {"model": "cnn", "federation": SPLIT, "defense": "cut_noise", "inversion": HIJACK},
        "defense: CutNoise is applied by whoever has the labels",
    ),
    "more images than there are": (
        {"model": "cnn", "federation": SPLIT, "inversion": {**HIJACK, "knowledge": {"auxiliary": 21}}},
        "inversion.knowledge.auxiliary: expected at most the 20 test images, got 21",
    ),
    "more images than there are, for an imprint": (
        {"inversion": {"name": "imprint", "knowledge": {"auxiliary": 21}}},
        "inversion.knowledge.auxiliary: expected at most the 20 test images, got 21",
    ),
    "statistics that the model has not": (
        {"federation": {"algorithm": "fedsgd"}, "inversion": {"name": "dlg", "knowledge": {"bn_statistics": "batch"}}},
        "inversion.knowledge.bn_statistics: the model has no batch normalization",
    ),
    "more known labels than examples": (
        {
            "model": "cnn",
            "federation": SPLIT,
            "attack": {"name": "gradient_replacement", "num_byzantine": 1, "known": 9},
        },
        "attack: client 1: known must be at most the 3 examples of class 0 that this attacker has, got 9",
    ),
    "members that are not there": (
        {"audit": {"membership": {"inferences": "loss_threshold", "members": 50, "nonmembers": 50}}},
        "audit.membership: asks for 50 members and 50 non-members",
    ),
    "a batch of one": (
        {"model": "resnet18", "partition": {"clients": 60}, "federation": {"algorithm": "fedsgd"}},
        "client 0 (1 examples) would train on a batch of 1: batch normalization needs more than one value a channel",
    ),
    "classes that nobody takes": (
        {"partition": {"name": "classes_per_client", "clients": 3}},
        "partition: classes_per_client: 3 clients with 2 classes each cannot take all",
    ),
    "a server that takes a client's last example": (
        {"partition": {"clients": 60}, "federation": {"server_data": {"examples": 4}}},
        "federation.server_data: takes all 1 examples of client",
    ),
}


@pytest.mark.parametrize(("changes", "message"), ROWS.values(), ids=ROWS.keys())
def test_what_a_cell_would_refuse_is_refused_before(changes: dict[str, Any], message: str) -> None:
    scenario = {"dataset": {"name": "digits", "train_size": 60, "test_size": 20}, "partition": {"clients": 4}}
    loaded = load_scenario({**scenario, **changes, "matrix": {"seed": [0, 1]}})
    check_scenario(loaded)
    with pytest.raises(ScenarioError) as caught:
        look(loaded)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1  # whatever the seeds


LOOKED_AT = {
    "dataset": {"name": "digits", "train_size": 60, "test_size": 20},
    "partition": {"clients": 4},
    "inversion": {"name": "imprint", "knowledge": {"auxiliary": 21}},
}


def test_what_a_method_from_elsewhere_raises_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("gone")

    monkeypatch.setattr(rehearsal, "build_experiment", fail)
    with pytest.raises(ScenarioError, match="KeyError: 'gone'"):
        look(load_scenario(LOOKED_AT))


def test_what_was_begun_is_closed_though_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    build, closed = rehearsal.build_experiment, list[str]()

    def watched(*arguments: Any, **options: Any) -> Any:
        experiment = build(*arguments, **options)
        monkeypatch.setattr(experiment.federation, "close", lambda: closed.append("closed"))
        return experiment

    monkeypatch.setattr(rehearsal, "build_experiment", watched)
    before = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(ScenarioError, match="expected at most the 20 test images, got 21"):
        look(load_scenario(LOOKED_AT))
    assert closed == ["closed"]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_what_nobody_looks_at_is_not_begun() -> None:
    assert not any(reasons(cell.config) for cell in load_scenario("quickstart").cells())
