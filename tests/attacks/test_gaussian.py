"""Gaussian noise in the place of updates."""

from collections.abc import Callable

import pytest
import torch

from fedsec.attacks import Gaussian
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def test_moments_and_independence(attacker_view: View) -> None:
    rows = Gaussian(std=3.0, mean=-5.0).craft(attacker_view(torch.zeros(2, 4000), 3))
    assert rows.mean(1).tolist() == pytest.approx([-5] * 3, abs=0.3)
    assert rows.std(1).tolist() == pytest.approx([3] * 3, abs=0.2)
    assert rows.corrcoef()[0, 1].abs() < 0.1


def test_added_and_colluding(attacker_view: View) -> None:
    view = attacker_view(torch.zeros(2, 5), [[1.0] * 5, [100.0] * 5])
    rows = Gaussian(added=True, colluding=True).craft(view)
    torch.testing.assert_close(rows[1] - 100, rows[0] - 1, rtol=0, atol=1e-4)
    assert not torch.equal(rows[0], view.own[0])
    assert torch.equal(Gaussian(std=0.0, mean=2.0, added=True).craft(view), view.own + 2)


@pytest.mark.parametrize("options", [{"std": -1.0}, {"std": float("nan")}, {"mean": float("inf")}])
def test_malformed(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="Gaussian: std must be finite and not negative, and mean finite"):
        Gaussian(**options)
