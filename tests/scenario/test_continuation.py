"""More rounds of a finished experiment: when its end is the beginning of the longer one."""

from typing import Any

import pytest

from fedsec.scenario import CellConfig
from fedsec.scenario.continuation import extends

PRIVATE = {"name": "dp_sgd", "noise_multiplier": 1.0}


def cell(rounds: int, **more: Any) -> CellConfig:
    federation = {"rounds": rounds, **more.pop("federation", {})}
    return CellConfig.model_validate({"dataset": "digits", "federation": federation, **more})


def test_more_rounds_of_the_same_experiment_go_on() -> None:
    assert extends(cell(9), cell(3))
    assert not extends(cell(3), cell(3))
    assert not extends(cell(3), cell(9))
    assert extends(cell(9, model={"name": "mlp", "label": "a network"}), cell(3))
    assert extends(cell(9, defense=[PRIVATE]), cell(3, defense=[PRIVATE]))


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ({"seed": 1}, {}),
        ({"defense": "median"}, {}),
        ({"federation": {"local": {"lr": 0.5}}}, {}),
        ({"federation": {"algorithm": "scaffold"}}, {"federation": {"algorithm": "scaffold", "option": "I"}}),
        ({"partition": {"clients": 5}}, {}),
    ],
)
def test_another_experiment_does_not(longer: dict[str, Any], shorter: dict[str, Any]) -> None:
    assert not extends(cell(9, **longer), cell(3, **shorter))


@pytest.mark.parametrize(
    ("rounds", "more"),
    [
        (3, {"defense": [{"name": "dp_sgd", "target_epsilon": 3.0}]}),
        (3, {"federation": {"evaluate_every": 2}}),  # the third round was evaluated for being the last
        (1, {}),  # its rows were trained one by one
    ],
)
def test_what_looked_ahead_does_not(rounds: int, more: dict[str, Any]) -> None:
    assert not extends(cell(9, **more), cell(rounds, **more))
