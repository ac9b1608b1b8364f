"""Min-sum: the bound is the paper's, and it is attained."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.attacks import MinSum
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def excess(row: Tensor, honest: Tensor) -> float:
    """How far the paper's condition is broken, written out: the bound is the largest sum, not the smallest."""
    sums = (honest[:, None] - honest).square().sum((1, 2))
    return float((row - honest).square().sum() - sums.max())


def direction_of(kind: str, honest: Tensor) -> Tensor:
    mean = honest.mean(0)
    return {"unit": -mean / mean.norm(), "sign": -mean.sign(), "std": -honest.std(0)}[kind]


def bisected(kind: str, honest: Tensor) -> Tensor:
    """The largest gamma by bisection, without a cap; the condition holds below it and not above."""
    mean, direction = honest.mean(0), direction_of(kind, honest)
    low, high = 0.0, 1.0
    while excess(mean + high * direction, honest) <= 0:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(mean + middle * direction, honest) <= 0 else (low, middle)
    return mean + low * direction


@given(
    kind=st.sampled_from(["unit", "sign", "std"]),
    count=st.integers(2, 7),
    columns=st.integers(1, 6),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_against_bisection(
    attacker_view: View, random_rows: Callable[..., Tensor], kind: str, count: int, columns: int, size: float, seed: int
) -> None:
    honest = random_rows(count, columns, seed, torch.float64) * size
    for knowledge in ("omniscient", "own"):
        view = (
            attacker_view(honest, 1)
            if knowledge == "omniscient"
            else attacker_view(torch.zeros(2, columns).double(), honest)
        )
        rows = MinSum(kind, knowledge).craft(view)  # type: ignore[arg-type]
        for row in rows:
            torch.testing.assert_close(row, bisected(kind, honest), rtol=1e-6, atol=1e-7 * size)


def test_golden_value(attacker_view: View) -> None:
    """Rows -1, 0, 1 and 4: sums of squared distances are 30, 18, 14 and 50, about their mean 14: gamma^2 = 36 / 4."""
    view = attacker_view(torch.tensor([[-1.0], [0.0], [1.0], [4.0]]), 2)
    assert MinSum("sign").craft(view).tolist() == [[-2], [-2]]
    assert view.report == {"gamma": pytest.approx(3)}


def test_gamma_has_no_cap(attacker_view: View) -> None:
    """Honest rows far apart along one axis let the attackers go far along another, in which they hardly vary."""
    honest = torch.tensor([[-1000.0, 1.0], [1000.0, 1.0], [0.0, 1.0 + 1e-3]])
    view = attacker_view(honest, 1)
    MinSum("std").craft(view)
    unit = attacker_view(honest, 1)
    MinSum("unit").craft(unit)
    assert float(unit.report["gamma"]) > 1000
    assert float(view.report["gamma"]) > 0


@pytest.mark.parametrize("kind", ["unit", "sign", "std"])
def test_no_room(attacker_view: View, kind: str) -> None:
    for honest in ([[1.0, 2.0]] * 4, [[0.0, 0.0]] * 4, [[3.0, -1.0]]):
        view = attacker_view(honest, 2)
        assert torch.equal(MinSum(kind).craft(view), torch.tensor(honest[0]).expand(2, 2))  # type: ignore[arg-type]
        assert view.report["gamma"] == 0
        assert "no attack" in str(view.report["remark"])


def test_malformed() -> None:
    with pytest.raises(InputError, match="MinSum: direction must be one of unit, sign, std, not 'up'"):
        MinSum("up")  # type: ignore[arg-type]
