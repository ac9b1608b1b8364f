"""The largest value on a line, where next to nothing is known of the function: a signed grid, then a closer look."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from fedsec.errors import InputError

__all__ = ["largest_on_line"]

_GOLDEN = (5**0.5 - 1) / 2

_NEARLY = 0.8
"""A side whose best is less than this share of the other's is not looked at more closely."""


def largest_on_line(
    value: Callable[[float], float], magnitudes: Sequence[float], *, refinements: int = 12
) -> tuple[float, float]:
    """The magnitude of either sign with the largest value, and that value.

    First all magnitudes on both sides of zero, then golden sections between the neighbors of a side's best one. A
    defense's damage grows until the defense notices and then falls off a cliff, at another place on the other side:
    neither the first rise nor the last magnitude decides. Of equal values the smaller magnitude counts, and the
    positive one.

    Args:
        value: of a magnitude.
        magnitudes: positive, ascending, at least one; the first steps begin at zero.
        refinements: how many golden sections follow on a side, of a value each and one more.

    Raises:
        InputError: magnitudes out of order, or a negative number.
    """
    ascending = all(low < high for low, high in pairwise([0.0, *magnitudes]))
    if not magnitudes or not ascending or refinements < 0:
        raise InputError(
            f"largest_on_line: expected positive magnitudes in ascending order and refinements >= 0, got "
            f"{list(magnitudes)} and {refinements}"
        )
    sides = {sign: {size: value(sign * size) for size in magnitudes} for sign in (1.0, -1.0)}
    best = max(max(side.values()) for side in sides.values())
    for sign, side in sides.items():
        if max(side.values()) >= best - (1 - _NEARLY) * abs(best):
            _look_closer(lambda size, sign=sign: value(sign * size), side, magnitudes, refinements)  # type: ignore[misc]
    reached = {sign: max(side, key=side.__getitem__) for sign, side in sides.items()}
    above, below = reached[1.0], reached[-1.0]
    if (sides[-1.0][below], -below) > (sides[1.0][above], -above):
        return -below, sides[-1.0][below]
    return above, sides[1.0][above]


def _look_closer(
    value: Callable[[float], float], values: dict[float, float], magnitudes: Sequence[float], refinements: int
) -> None:
    """Add values between the neighbors of the best magnitude; none where that is the last: there it goes on growing."""
    place = magnitudes.index(max(values, key=values.__getitem__))
    if place == len(magnitudes) - 1 or not refinements:
        return
    low, high = (0.0, *magnitudes)[place], magnitudes[place + 1]
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    values[left], values[right] = value(left), value(right)
    for _ in range(refinements - 1):
        if values[left] >= values[right]:
            high, right = right, left
            left = high - _GOLDEN * (high - low)
            values[left] = value(left)
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)
            values[right] = value(right)
