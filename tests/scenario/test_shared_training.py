"""What names the training that one-round cells share: everything that it depends on."""

from typing import Any

import pytest

from fedsec.attacks import DBA, LabelFlip
from fedsec.federation import Threat
from fedsec.scenario import CellConfig
from fedsec.scenario.shared_training import SharingKeys, is_shared, part_of, shared_work


def key(**more: Any) -> str:
    federation = {"rounds": 1, **more.pop("federation", {})}
    config = CellConfig.model_validate({"dataset": "digits", "federation": federation, **more})
    return SharingKeys(config, "cpu")(0, poisoned=False)


@pytest.mark.parametrize(
    "more",
    [
        {"defense": "median"},
        {"attack": {"name": "sign_flip", "fraction": 0.2}},
        {"federation": {"server_lr": 0.5, "weighting": "uniform", "clients_per_round": 3}},
        {"federation": {"label": "called so"}},
    ],
)
def test_what_comes_after_training_shares_it(more: dict[str, Any]) -> None:
    assert key(**more) == key()


@pytest.mark.parametrize(
    "more",
    [
        {"federation": {"algorithm": "fedprox", "mu": 0.5}},
        {"federation": {"local": {"drop_last": True}}},
        {"federation": {"local": {"lr": 0.5}}},
        {"partition": {"seed": 3}},
        {"model": {"seed": 3}},
        {"seed": 3},
        {"defense": [{"name": "dp_sgd", "noise_multiplier": 1.0}]},
    ],
)
def test_what_training_depends_on_does_not(more: dict[str, Any]) -> None:
    assert key(**more) != key()
    assert len({key(federation={"algorithm": "fedprox", "mu": mu}) for mu in (0.1, 0.2)}) == 2


@pytest.mark.parametrize(
    ("algorithm", "shared"), [("fedavg", True), ("fedsgd", True), ("scaffold", False), ("centralized", False)]
)
def test_only_algorithms_whose_first_rounds_are_alike_share(algorithm: str, shared: bool) -> None:
    config = CellConfig.model_validate({"dataset": "digits", "federation": {"algorithm": algorithm, "rounds": 1}})
    assert is_shared(config) == shared


def test_attackers_that_divide_an_attack_share_no_more_than_their_part() -> None:
    def keys(name: str, count: int) -> set[str]:
        config = CellConfig.model_validate(
            {
                "dataset": "digits",
                "partition": {"clients": 6},
                "federation": {"rounds": 1},
                "attack": {"name": name, "num_byzantine": count},
            }
        )
        return {training.key for training in shared_work([config]) if training.poisoned}

    threat = Threat(frozenset({3, 7, 9}))
    assert part_of(7, DBA, threat) == (1, 3)
    assert part_of(7, LabelFlip, threat) == ()
    # Two attackers are among the three of the same seed: what they do alone is trained once.
    assert keys("label_flip", 2) < keys("label_flip", 3)
    assert not keys("dba", 2) & keys("dba", 3)
