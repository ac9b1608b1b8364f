"""Updates that hold infinity, and the gate that holds them back."""

from collections.abc import Callable

import pytest
import torch

from fedsec.attacks import Infinity
from fedsec.defenses import Median, MultiKrum
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


@pytest.mark.parametrize("num_values", [None, 1, 2])
def test_so_many_values_and_no_others(attacker_view: View, num_values: int | None) -> None:
    view = attacker_view(torch.zeros(3, 60), 2)
    rows = Infinity(num_values).craft(view)
    odd = rows.isinf()
    assert odd.sum(1).tolist() == [60 if num_values is None else num_values] * 2
    assert torch.equal(rows[~odd], view.own[~odd])
    if num_values == 1:
        assert not torch.equal(odd[0], odd[1])


def test_the_gate_holds(attacker_view: View) -> None:
    honest = torch.arange(21.0).reshape(7, 3)
    rows = Infinity(1).craft(attacker_view(honest, 2))
    for rule in (Median(), MultiKrum(2)):
        aggregate = rule.aggregate(torch.cat([rows, honest]))
        assert aggregate.rejected == (0, 1)
        assert bool(aggregate.vector.isfinite().all())


def test_malformed() -> None:
    with pytest.raises(InputError, match="Infinity: num_values must be positive, not 0"):
        Infinity(0)
