"""Inner product manipulation, by hand."""

from collections.abc import Callable

import pytest
import torch

from fedsec.attacks import IPM
from fedsec.defenses import Mean
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def test_by_hand(attacker_view: View) -> None:
    view = attacker_view([[1.0, -2.0], [3.0, 0.0]], [[10.0, 10.0], [20.0, 0.0]])
    assert IPM(0.5).craft(view).tolist() == [[-1, 0.5]] * 2
    assert IPM(2.0, "own").craft(view).tolist() == [[-30, -10]] * 2


def test_the_mean_turns_around_above_the_ratio_of_honest_to_byzantine(attacker_view: View) -> None:
    honest = torch.tensor([[1.0], [2.0], [3.0]])
    for epsilon, sign in ((1.4, 1), (1.6, -1)):
        rows = IPM(epsilon).craft(attacker_view(honest, 2))
        assert float(Mean()(torch.cat([rows, honest]))) * sign > 0


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_malformed(epsilon: float) -> None:
    with pytest.raises(InputError, match="IPM: epsilon must be positive and finite"):
        IPM(epsilon)
