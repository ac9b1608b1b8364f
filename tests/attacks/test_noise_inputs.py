"""Noise on inputs: its size, and what it leaves alone."""

import pytest
import torch

from fedsec.attacks import NoiseInputs
from fedsec.errors import InputError

LABELS = torch.zeros(50, dtype=torch.int64)


def test_pixels() -> None:
    gray = torch.full((50, 1, 20, 20), 128, dtype=torch.uint8)
    images, labels = NoiseInputs(0.1).poison(gray, LABELS, num_classes=2, generator=torch.Generator().manual_seed(0))
    assert labels is not None
    assert torch.equal(labels, LABELS)
    assert images.dtype == torch.uint8
    off = images.double() / 255 - 128 / 255
    assert abs(float(off.std()) - 0.1) < 0.002
    assert abs(float(off.mean())) < 0.002
    # Loud noise is cut off, and does not wrap around.
    loud, _ = NoiseInputs(50.0).poison(gray, LABELS, num_classes=2, generator=torch.Generator().manual_seed(0))
    assert ((loud == 0) | (loud == 255)).float().mean() > 0.98


def test_floats_and_vectors() -> None:
    images, _ = NoiseInputs(1.0).poison(
        torch.full((50, 1, 4, 4), 0.5), LABELS, num_classes=2, generator=torch.Generator().manual_seed(0)
    )
    assert images.min() == 0
    assert images.max() == 1
    vectors, _ = NoiseInputs(100.0).poison(
        torch.zeros(50, 40), torch.zeros(50), num_classes=None, generator=torch.Generator().manual_seed(0)
    )
    assert abs(float(vectors.std()) / 100 - 1) < 0.05


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_malformed(std: float) -> None:
    with pytest.raises(InputError, match="std must be positive and finite"):
        NoiseInputs(std)
