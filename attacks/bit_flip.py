"""Bit flipping: some bits of every number of an honest update are turned over.

Of the sign bit alone, which is what Karimireddy, He and Jaggi (ICML 2021, arXiv:2012.10333) call bit flipping, that is
the opposite of the attacker's own update: the rows of `sign_flip` with `scale: 1`. Bits of the exponent make huge
numbers of ordinary ones, as faults of memory do.

Reference: Xie, Koyejo, Gupta, Phocas: dimensional Byzantine-resilient stochastic gradient descent, 2018,
arXiv:1805.09682 (bits 22, 30, 31 and 32).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


class BitFlip(UpdatePoisoning):
    """Sends the attacker's own honest update with some bits of each number flipped.

    Numbers are taken as single precision, whatever the updates' dtype. What comes of the exponent's bits may be NaN or
    infinite, and is then rejected.

    Args:
        bits: which bits, from 1, the least significant, over 24 to 31, the exponent, to 32, the sign.

    Raises:
        InputError: no bits, or bits out of range.

    Cost:
        What honest training costs.

    Limits:
        Of the sign bit alone it is `sign_flip`. The exponent's high bits give numbers that are not finite, which every
        rule's gate rejects, or are far from honest ones; its lowest doubles or halves, and those below change less.

    Reference: Xie et al. 2018, arXiv:1805.09682; the sign bit: Karimireddy et al., ICML 2021, arXiv:2012.10333
    """

    knowledge = "own"
    by_columns = True

    def __init__(self, bits: Sequence[int] = (32,)) -> None:
        if not bits or not all(1 <= bit <= 32 for bit in bits) or len(set(bits)) < len(bits):
            raise InputError(f"BitFlip: bits must be different numbers from 1 to 32, not {list(bits)}")
        self.bits = tuple(bits)

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        if self.bits == (32,):
            return -view.own  # without rounding in double precision
        mask = sum(1 << (bit - 1) for bit in self.bits)
        signed = mask - (1 << 32) if mask >= 1 << 31 else mask
        return (view.own.float().view(torch.int32) ^ signed).view(torch.float32).to(view.own.dtype)
