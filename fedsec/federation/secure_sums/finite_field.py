"""Arithmetic in the field of integers modulo 2^31 - 1, on arrays of 64-bit integers."""

import numpy as np
from jaxtyping import UInt64

__all__ = ["PRIME", "combined", "inverse", "lagrange", "product", "reduced", "uniform"]

PRIME = np.uint64(2**31 - 1)
"""Products of two elements fit into 64 bits."""

Elements = UInt64[np.ndarray, "..."]


_BITS = np.uint64(31)


def reduced(values: Elements) -> Elements:
    """Any 64-bit integers modulo the prime: since 2^31 is 1 there, the upper bits are added to the lower ones."""
    values = (values & PRIME) + (values >> _BITS)
    values = (values & PRIME) + (values >> _BITS)
    # What is below the prime wraps around to a large number when it is subtracted.
    result: Elements = np.minimum(values, values - PRIME)
    return result


def product(one: Elements, other: Elements | np.uint64) -> Elements:
    """Elementwise."""
    result: Elements = one * other
    return reduced(result)


def inverse(values: Elements) -> Elements:
    """The inverse of each element, by Fermat: its power p - 2.

    Raises:
        ZeroDivisionError: of zero.
    """
    if not np.all(values % PRIME):
        raise ZeroDivisionError("zero has no inverse")
    result, power, exponent = np.ones_like(values), values % PRIME, int(PRIME) - 2
    while exponent:
        if exponent & 1:
            result = product(result, power)
        power, exponent = product(power, power), exponent >> 1
    return result


def lagrange(
    known: UInt64[np.ndarray, "known"], asked: UInt64[np.ndarray, "asked"]
) -> UInt64[np.ndarray, "asked known"]:
    """Weights by which values of a polynomial at some points give its values at others.

    Args:
        known: points, all different; the polynomial's degree is below their number.
        asked: points of which the values are wanted.

    Returns:
        A row of weights for each point that is asked.
    """
    columns = np.arange(len(known))
    numerators = np.ones((len(asked), len(known)), np.uint64)
    denominators = np.ones(len(known), np.uint64)
    for place, point in enumerate(known):
        others = columns != place
        numerators[:, others] = product(numerators[:, others], (asked + PRIME - point)[:, None] % PRIME)
        denominators[others] = product(denominators[others], (known[others] + PRIME - point) % PRIME)
    return product(numerators, inverse(denominators))


def combined(
    weights: UInt64[np.ndarray, "rows terms"], vectors: UInt64[np.ndarray, "terms numbers"]
) -> UInt64[np.ndarray, "rows numbers"]:
    """The product of a matrix with vectors."""
    result = np.zeros((len(weights), vectors.shape[1]), np.uint64)
    for row, own in zip(result, weights, strict=True):
        for weight, vector in zip(own, vectors, strict=True):
            # A product and an element fit into 64 bits, so one reduction a step is enough.
            row[:] = reduced(weight * vector + row)
    return result


def uniform(generator: np.random.BitGenerator, *shape: int) -> Elements:
    """Random elements, each from 31 bits: 0 is twice as likely as any other, two in four billion."""
    count = int(np.prod(shape))
    words = np.asarray(generator.random_raw(-(-count // 2)), np.uint64).view(np.uint32)[:count]
    return reduced((words >> np.uint32(1)).astype(np.uint64)).reshape(shape)
