"""Shifted targets, by hand."""

import pytest
import torch

from fedsec.attacks import LabelFlip, TargetShift
from fedsec.errors import InputError


def test_by_hand() -> None:
    inputs, targets = torch.zeros(3, 2), torch.tensor([-1.0, 0.0, 2.5])
    same, shifted = TargetShift(3.0).poison(inputs, targets, num_classes=None, generator=torch.Generator())
    assert same is inputs
    assert shifted.tolist() == [2.0, 3.0, 5.5]


@pytest.mark.parametrize("shift", [0.0, float("nan"), float("inf")])
def test_malformed_shift(shift: float) -> None:
    with pytest.raises(InputError, match="shift must be finite and not 0"):
        TargetShift(shift)


def test_classes_are_not_shifted_and_numbers_not_flipped() -> None:
    images, generator = torch.zeros(2, 1, 4, 4), torch.Generator()
    with pytest.raises(InputError, match="these targets are classes; expected a regression"):
        TargetShift().poison(images, torch.tensor([0, 1]), num_classes=10, generator=generator)
    with pytest.raises(InputError, match="expected a task of classification"):
        LabelFlip().poison(images, torch.tensor([0.5, 1.0]), num_classes=None, generator=generator)
