"""The worst case in one call: for fedsec's rules, and for functions of tensors, arrays and lists."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import worst_case
from fedsec.defenses import NNM, Bucketing, CenteredClipping, Krum, Median, Pipeline
from fedsec.errors import InputError

UPDATES = torch.randn(9, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2


def damage(rule: Any, rows: Tensor) -> float:
    return float((rule(torch.cat([UPDATES, rows])) - UPDATES.mean(0)).norm())


def test_it_says_who_does_what() -> None:
    before = UPDATES.clone()
    found = worst_case(Krum(num_byzantine=2), UPDATES, num_byzantine=2, objective="distance")
    assert found.attack == max(found.damages, key=lambda name: found.damages[name])
    assert found.damage == max(found.damages.values()) == pytest.approx(damage(Krum(2), found.rows))
    assert found.damage > found.honest_damage == pytest.approx(damage(Krum(2), UPDATES[:2]))
    assert torch.equal(UPDATES, before)


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "worst_case.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(compile(block.replace("1000", "50"), "worst_case.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_stronger_rule_has_a_milder_worst_case() -> None:
    plain, mixed = (worst_case(rule, UPDATES, 2).damage for rule in (Krum(2), Pipeline([NNM(2), Krum(2)])))
    assert mixed < plain


def test_any_function_is_tried_in_the_kind_of_its_rows() -> None:
    expected = worst_case(Median(), UPDATES, 2, attacks=["alie", "sign_flip"])

    def of_tensors(rows: Tensor) -> Tensor:
        return rows.median(0).values

    def of_arrays(rows: np.ndarray) -> np.ndarray:
        assert isinstance(rows, np.ndarray)
        return np.sort(rows, 0)[(len(rows) - 1) // 2]

    def of_lists(rows: list[list[float]]) -> list[float]:
        assert isinstance(rows[0], list)
        return [sorted(column)[(len(column) - 1) // 2] for column in zip(*rows, strict=True)]

    for rule, given in ((of_tensors, UPDATES), (of_arrays, UPDATES.numpy()), (of_lists, UPDATES.tolist())):
        found = worst_case(rule, given, 2, attacks=["alie", "sign_flip"])
        assert found.attack == expected.attack
        assert found.damage == pytest.approx(expected.damage, rel=0.02)
        assert isinstance(found.rows, type(given))
        assert len(found.rows) == 2


def test_seeds_and_context_reach_rule_and_attacks() -> None:
    rule = Pipeline([Bucketing(2), Median()])
    first, same = (worst_case(rule, UPDATES, 2, seed=3, attacks=["ipm"]) for _ in range(2))
    assert torch.equal(first.rows, same.rows)
    clipping = CenteredClipping(radius=1.0)
    worst_case(clipping, UPDATES, 2, attacks=["alie"], context={"clients": list(range(5, 16))})
    assert clipping.state() == {}


def test_what_it_cannot_work_with_is_said() -> None:
    with pytest.raises(InputError, match="num_byzantine must be at least 1"):
        worst_case(Median(), UPDATES, 0)
    with pytest.raises(InputError, match="finite honest updates"):
        worst_case(Median(), UPDATES * torch.nan, 1)
    with pytest.raises(InputError, match="own_updates of 2 rows and 40 columns"):
        worst_case(Median(), UPDATES, 2, own_updates=UPDATES[:1])
    with pytest.raises(InputError, match="an Aggregator or a function"):
        worst_case("median", UPDATES, 2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not the class Median itself"):
        worst_case(Median, UPDATES, 2)
    with pytest.raises(InputError, match="needs at least"):
        worst_case(Krum(5), UPDATES, 2)
    with pytest.raises(InputError, match="must give a vector of 40 numbers"):
        worst_case(lambda rows: rows, UPDATES, 2)
