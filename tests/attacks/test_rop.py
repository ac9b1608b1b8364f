"""Relocated orthogonal perturbation: where it starts, its angle and its length."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsec.attacks import ROP
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 180.0])
@pytest.mark.parametrize("columns", [2, 40])
def test_angle_and_length(attacker_view: View, random_rows: Callable[..., Tensor], angle: float, columns: int) -> None:
    honest, last = random_rows(5, columns, 1, torch.float64), random_rows(1, columns, 2, torch.float64)[0]
    view = attacker_view(honest, 2, last_aggregate=last, round=2)
    for relocation, mixing in ((1.0, 0.9), (0.25, 0.0)):
        rows = ROP(3.0, relative=False, relocation=relocation, mixing=mixing, angle=angle).craft(view)
        moved = rows[0] - (relocation * last + (1 - relocation) * honest.mean(0))
        reference = mixing * last + (1 - mixing) * honest.mean(0)
        assert float(moved.norm()) == pytest.approx(3)
        cosine = float(moved @ reference / reference.norm() / 3)
        assert cosine == pytest.approx(math.cos(math.radians(angle)), abs=1e-9)
        assert torch.equal(rows[0], rows[1])


def test_golden_values(attacker_view: View) -> None:
    """Ones less their projection on (1, 0) are (0, 1); the honest rows are 1 from their mean, on average of squares."""
    honest = torch.tensor([[2.0, 1.0], [2.0, -1.0]])
    view = attacker_view(honest, 1, last_aggregate=torch.tensor([5.0, 0.0]), round=2)
    assert ROP(2.0).craft(view).flatten().tolist() == pytest.approx([5, 2])
    assert ROP(2.0, relocation=0.0).craft(view).flatten().tolist() == pytest.approx([2, 2])
    first = attacker_view(honest, 1)
    assert ROP(0.5, relative=False).craft(first).flatten().tolist() == pytest.approx([0, 0.5])


def test_references_without_a_direction(attacker_view: View) -> None:
    """Parallel to the vector of ones, zero, or with a single parameter: never NaN, and as long as asked for."""
    for honest in ([[1.0, 1.0], [3.0, 3.0]], [[1.0, -1.0], [-1.0, 1.0]], [[2.0], [4.0]], [[0.0], [0.0]]):
        view = attacker_view(honest, 1)
        row = ROP(2.0, relative=False).craft(view)[0]
        assert float(row.norm()) == pytest.approx(2)
    parallel = attacker_view([[1.0, 1.0], [3.0, 3.0]], 1)
    assert float(ROP(2.0, relative=False).craft(parallel)[0].sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("options", [{"z": 0.0}, {"angle": float("nan")}, {"relocation": 1.5}, {"mixing": -0.1}])
def test_malformed(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="ROP: "):
        ROP(**options)  # type: ignore[arg-type]
