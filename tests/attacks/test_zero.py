"""Updates of zeros."""

from collections.abc import Callable

import torch

from fedsec.attacks import ZeroUpdate
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def test_zeros(attacker_view: View) -> None:
    assert torch.equal(ZeroUpdate().craft(attacker_view(torch.ones(3, 4), 2)), torch.zeros(2, 4))
