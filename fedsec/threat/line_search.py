"""The largest value on a line, where next to nothing is known of the function: a signed grid, then a closer look."""

from collections.abc import Callable
from math import exp, log, log10

from fedsec.errors import InputError

__all__ = ["largest_on_line"]

_GOLDEN = (5**0.5 - 1) / 2


def largest_on_line(
    value: Callable[[float], float],
    *,
    smallest: float,
    largest: float,
    per_decade: int = 3,
    refinements: int = 20,
) -> tuple[float, float]:
    """The magnitude of either sign with the largest value, and that value.

    A grid of equal ratios, both signs of every magnitude; then golden sections between the neighbors of the best one.
    A defense's damage grows until the defense notices and then falls off a cliff, so that neither the first rise nor
    the last magnitude decides. Of equal values the smaller magnitude counts, and the positive sign.

    Args:
        value: of a magnitude.
        smallest: magnitude of the grid, positive.
        largest: magnitude of the grid.
        per_decade: how many of the grid's magnitudes a factor of ten holds, about.
        refinements: how many golden sections follow, of a value each.

    Raises:
        InputError: bounds or numbers out of range.
    """
    if not 0 < smallest < largest or per_decade < 1 or refinements < 0:
        raise InputError(
            f"largest_on_line: expected 0 < smallest < largest, per_decade >= 1 and refinements >= 0, got {smallest}, "
            f"{largest}, {per_decade} and {refinements}"
        )
    steps = max(1, round(per_decade * log10(largest / smallest)))
    ratio = log(largest / smallest) / steps
    place, sign, best = 0, 1.0, value(smallest)
    for step in range(steps + 1):
        magnitude = smallest * exp(ratio * step)
        for side in (1.0, -1.0):
            if step == 0 and side == 1.0:
                continue
            reached = value(side * magnitude)
            if reached > best:
                place, sign, best = step, side, reached
    winner = sign * smallest * exp(ratio * place)
    if place == steps:
        return winner, best  # it goes on growing
    low, high = ratio * max(0, place - 1), ratio * (place + 1)
    probes: dict[float, float] = {}

    def at(offset: float) -> float:
        nonlocal winner, best
        if offset not in probes:
            magnitude = sign * smallest * exp(offset)
            probes[offset] = value(magnitude)
            if probes[offset] > best:
                winner, best = magnitude, probes[offset]
        return probes[offset]

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    for _ in range(refinements):
        if at(left) >= at(right):
            high, left, right = right, right - _GOLDEN * (right - low), left
        else:
            low, left, right = left, right, left + _GOLDEN * (high - left)
    return winner, best
