"""Mimic: the warm-up finds the direction of largest variance, and one client is copied."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsec.attacks import Mimic
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def cohort(seed: int, outlier: int, clients: int = 6, columns: int = 5) -> Tensor:
    """Clients that scatter a little, but for one far along an axis of its own."""
    rows = torch.randn(clients, columns, generator=torch.Generator().manual_seed(seed)) * 0.1 + 3
    rows[outlier, 2] += 4.0
    return rows


def test_against_the_papers_recursion(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    """Mean and direction round by round in float64, with the covariance matrix written out."""
    attack = Mimic(warmup=4)
    mean = direction = torch.zeros(5, dtype=torch.float64)
    copied: list[int] = []
    for number in range(7):
        honest = random_rows(6, 5, number, torch.float64)
        view = attacker_view(honest, 2, round=number + 1)
        if number == 0:
            direction = torch.randn(5, generator=torch.Generator().manual_seed(7)).double()
        if number < 4:
            mean = number / (number + 1) * mean + honest.mean(0) / (number + 1)
            pulled = sum((torch.outer(row - mean, row - mean) @ direction for row in honest), torch.zeros(5).double())
            pulled = pulled / pulled.norm()
            direction = pulled if number == 0 else number / (number + 1) * direction + pulled / (number + 1)
            direction = direction / direction.norm()
            copied.append(max(range(6), key=lambda place: float(honest[place] @ direction)))
        rows = attack.craft(view)
        assert torch.equal(rows, honest[copied[-1]].expand(2, 5))
        assert view.report["client"] == str(copied[-1])
        torch.testing.assert_close(attack.state()["direction"], direction)


def test_it_finds_the_direction_of_largest_variance(attacker_view: View) -> None:
    attack = Mimic(warmup=8)
    for number in range(8):
        attack.craft(attacker_view(cohort(number, outlier=number % 2), 1, round=number + 1))
    axis = attack.state()["direction"].abs()
    assert float(axis[2]) > 0.99


def test_it_keeps_copying_the_same_client_wherever_its_row_is(attacker_view: View) -> None:
    attack = Mimic(warmup=1)
    ids = (4, 7, 9, 10, 12, 15)
    first = attacker_view(cohort(0, outlier=3), 2, clients=ids)
    attack.craft(first)
    target = ids.index(int(first.report["client"]))
    later = cohort(1, outlier=(target + 1) % 6)
    for order in ([5, 4, 3, 2, 1, 0], [1, 2, 3, 4, 5, 0]):
        view = attacker_view(later[order], 2, clients=tuple(ids[place] for place in order), round=2)
        assert torch.equal(attack.craft(view)[1], later[target])
    others = [place for place in range(6) if place != target]
    away = attacker_view(later[others], 2, clients=tuple(ids[place] for place in others), round=3)
    assert torch.equal(
        attack.craft(away)[0], later[others[int(away.honest.matmul(attack.state()["direction"]).argmax())]]
    )
    back = attacker_view(later, 2, clients=ids, round=4)
    assert torch.equal(attack.craft(back)[0], later[target])


def test_rows_that_are_alike_and_rows_that_are_not_finite(attacker_view: View) -> None:
    alike = Mimic()
    for number in (1, 2):
        assert alike.craft(attacker_view([[1.0, 2.0]] * 3, 1, round=number)).tolist() == [[1, 2]]
    assert all(bool(tensor.isfinite().all()) for tensor in alike.state().values())
    broken = attacker_view([[float("nan"), 9.0], [1.0, 2.0], [1.5, 2.0]], 1)
    assert Mimic().craft(broken).isfinite().all()
    alone = attacker_view([[float("nan"), 9.0]], [[3.0, 4.0]])
    assert Mimic().craft(alone).tolist() == [[3, 4]]
    assert "no honest client" in str(alone.report["remark"])


def test_malformed() -> None:
    with pytest.raises(InputError, match="Mimic: warmup must be at least one round, not 0"):
        Mimic(0)
    with pytest.raises(InputError, match=r"Mimic: remembers .* got .'mean'."):
        Mimic().restore({"mean": torch.zeros(3)})
