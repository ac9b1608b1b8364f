"""Real numbers as elements of a ring of integers: rounded to a grid, negative ones from the ring's upper end."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt64

from fedsec.errors import InputError

__all__ = ["FixedPoint"]

_EXACT = 52
"""Bits of an integer that float64 holds exactly, with its sign."""


@dataclass(frozen=True)
class FixedPoint:
    """x becomes round(x 2^f) mod M, where x is clipped to [-clip, clip].

    A sum of n numbers decodes to within n 2^-(f+1) of the sum of the clipped numbers, as long as it does not leave the
    ring: n clip 2^f must stay below M / 2.

    Args:
        modulus: M, the size of the ring.
        fraction_bits: f.
        clip: the largest absolute value of a number.

    Raises:
        InputError: a clipping range that is not positive and finite, or finer than float64 counts.
    """

    modulus: int
    fraction_bits: int
    clip: float

    def __post_init__(self) -> None:
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise InputError(f"secure_aggregation: clip must be positive and finite, got {self.clip}")
        if self.fraction_bits < 0 or self.largest >= 2**_EXACT:
            raise InputError(
                f"secure_aggregation: fraction_bits must be 0 or more, and clip x 2^fraction_bits below 2^{_EXACT}; "
                f"got {self.fraction_bits} and {self.clip:g}"
            )

    @classmethod
    def finest(cls, modulus: int, clip: float, weight: int, at_most: int = 24) -> "FixedPoint":
        """The finest grid on which sums of so large a weight fit into the ring.

        Raises:
            InputError: not even whole numbers do.
        """
        for bits in range(at_most, -1, -1):
            if bits and math.ldexp(clip, bits) + 0.5 >= 2**_EXACT:
                continue  # finer than float64 counts
            grid = cls(modulus, bits, clip)
            if weight <= grid.most_weight:
                return grid
        return cls(modulus, 0, clip).fitting(weight)

    @property
    def largest(self) -> int:
        """The code of the largest number."""
        return math.floor(math.ldexp(self.clip, self.fraction_bits) + 0.5)

    @property
    def most_weight(self) -> int:
        """How many numbers (how large a sum of weights) cannot leave the ring, whatever they are."""
        return (self.modulus // 2 - 1) // max(1, self.largest)

    def fitting(self, weight: int) -> "FixedPoint":
        """This grid, if sums of so large a weight fit into the ring.

        Args:
            weight: of all numbers of a sum together; how many they are, where all count once.

        Raises:
            InputError: they might overflow.
        """
        if weight > self.most_weight:
            need = 1 + math.log2(max(1, self.largest) * weight)
            raise InputError(
                f"secure_aggregation: a sum with weights of {weight:,} altogether takes {need:.1f} bits on a grid of "
                f"2^-{self.fraction_bits} within +-{self.clip:g}, and the ring has {math.log2(self.modulus):.0f}; "
                f"expected fewer fraction_bits, a smaller clip, more bits, or smaller weights (at most "
                f"{self.most_weight:,})"
            )
        return self

    def integers(
        self, numbers: Float64[np.ndarray, "rows numbers"], within: Bool[np.ndarray, "rows"] | None = None
    ) -> Int64[np.ndarray, "rows numbers"]:
        """The rounded numbers, before they enter the ring.

        Args:
            numbers: finite ones.
            within: rows that are clipped; all by default. Others may hold anything: who does not follow the protocol
                sends what it likes, and the ring takes it modulo its size.
        """
        scaled = np.rint(numbers * 2.0**self.fraction_bits)
        if within is None or within.all():
            return np.clip(scaled, -self.largest, self.largest).astype(np.int64)
        scaled[within] = np.clip(scaled[within], -self.largest, self.largest)
        wrapped = np.fmod(scaled, float(self.modulus))
        wrapped -= self.modulus * np.rint(wrapped / self.modulus)  # into the half-open middle, which int64 holds
        return np.clip(wrapped, -(2.0**63), 2.0**63 - 1024).astype(np.int64)

    def elements(self, integers: Int64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
        """Integers of either sign as elements of the ring."""
        if self.modulus == 2**64:
            return integers.astype(np.uint64)
        return (integers % self.modulus).astype(np.uint64)

    def signed(self, elements: UInt64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """Elements as integers of either sign: those of the upper half stand for negative ones."""
        if self.modulus == 2**64:
            return elements.astype(np.int64)
        integers = elements.astype(np.int64)
        return np.where(integers > (self.modulus - 1) // 2, integers - self.modulus, integers)

    def numbers(self, elements: UInt64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """What elements stand for."""
        return self.signed(elements) * 2.0**-self.fraction_bits
