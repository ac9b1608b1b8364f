"""Sign flipping, by hand."""

import pytest
import torch

from fedsec.attacks import SignFlip
from fedsec.errors import InputError
from fedsec.threat import AttackerView


def test_by_hand() -> None:
    view = AttackerView(
        own=torch.tensor([[1.0, -2.0], [0.5, 4.0]]),
        honest=torch.zeros(0, 2),
        parameters=torch.zeros(2),
        num_clients=5,
        num_byzantine=2,
        round=3,
        generator=torch.Generator(),
    )
    assert SignFlip().craft(view).tolist() == [[-1, 2], [-0.5, -4]]
    assert SignFlip(scale=3.0).craft(view).tolist() == [[-3, 6], [-1.5, -12]]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_malformed_scale(scale: float) -> None:
    with pytest.raises(InputError, match="scale must be positive and finite"):
        SignFlip(scale=scale)
