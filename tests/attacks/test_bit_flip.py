"""Bit flipping, against the bits of NumPy's numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedsec.attacks import BitFlip, SignFlip
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def test_the_sign_bit_alone_is_sign_flipping(attacker_view: View) -> None:
    for dtype in (torch.float32, torch.float64):
        view = attacker_view(torch.zeros(3, 3), [[1.0, -2.5, 0.1], [0.3, 4.0, -1e-3]])
        view = attacker_view(torch.zeros(3, 3, dtype=dtype), view.own)
        assert torch.equal(BitFlip().craft(view), SignFlip().craft(view))


@pytest.mark.parametrize("bits", [(1,), (23,), (24,), (31,), (22, 30, 31, 32), (32, 1)])
def test_bits_of_single_precision(attacker_view: View, bits: tuple[int, ...]) -> None:
    own = np.array([[1.0, -2.5, 0.1], [3e-5, 4.0, -1e-3]], dtype=np.float32)
    expected = own.view(np.uint32).copy()
    for bit in bits:
        expected ^= np.uint32(1 << (bit - 1))
    rows = BitFlip(bits).craft(attacker_view(torch.zeros(3, 3), torch.from_numpy(own)))
    assert np.array_equal(rows.numpy().view(np.uint32), expected)


def test_golden_values(attacker_view: View) -> None:
    """1.0 is 0x3f800000: the topmost bit of the exponent makes it infinite, the lowest one halves it."""
    view = attacker_view(torch.zeros(1, 1), [[1.0]])
    assert BitFlip([31]).craft(view).item() == float("inf")
    assert BitFlip([24]).craft(view).item() == 0.5


@pytest.mark.parametrize("bits", [[], [0], [33], [3, 3]])
def test_bits_that_are_none(bits: list[int]) -> None:
    with pytest.raises(InputError, match="BitFlip: bits must be different numbers from 1 to 32"):
        BitFlip(bits)
