"""Attackers who agree on a row: alike, or beside it."""

import pytest
import torch

from fedsec.errors import InputError
from fedsec.threat import AttackerView
from fedsec.threat.byzantine.collusion import check_scatter, colluding
from fedsec.threat.byzantine.spread import Spread

HONEST = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0], [100.0, 0.0, 0.0]])  # the nearest are 5 apart
ROW = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def view(count: int = 40) -> AttackerView:
    own, generator = torch.zeros(count, 3), torch.Generator().manual_seed(1)
    return AttackerView(own, HONEST, torch.zeros(3), count + 3, count, 1, generator)


def test_all_alike_draws_nothing() -> None:
    seen = view()
    before = seen.generator.get_state()
    rows = colluding(ROW, seen, Spread(HONEST), 0.0)
    assert torch.equal(rows, ROW.float().expand(40, 3))
    assert torch.equal(seen.generator.get_state(), before)


def test_beside_each_other_within_the_share() -> None:
    rows = colluding(ROW, view(), Spread(HONEST), 0.4)
    distances = (rows - ROW).norm(dim=1)
    assert float(distances.max()) <= 2
    assert float(distances.max()) > 1.5
    assert len(rows.unique(dim=0)) == 40
    assert rows.dtype == torch.float32
    single = colluding(ROW, view(), Spread(HONEST[:1]), 0.4)  # nothing to measure by
    assert torch.equal(single, ROW.float().expand(40, 3))


@pytest.mark.parametrize("scatter", [-0.1, 1.0, float("nan")])
def test_malformed(scatter: float) -> None:
    with pytest.raises(InputError, match=r"IPM: scatter must lie in \[0, 1\)"):
        check_scatter("IPM", scatter)
