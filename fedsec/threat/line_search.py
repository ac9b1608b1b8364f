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

    On each side of zero a grid of equal ratios, then golden sections between the neighbors of its best magnitude. A
    defense's damage grows until the defense notices and then falls off a cliff, at another place on the other side:
    neither the first rise nor the last magnitude decides. Of equal values the smaller magnitude counts, and the
    positive one.

    Args:
        value: of a magnitude.
        smallest: magnitude of the grid, positive.
        largest: magnitude of the grid.
        per_decade: how many of the grid's magnitudes a factor of ten holds, about.
        refinements: how many golden sections follow on each side, of a value each and one more.

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
    right, above = _largest_on_side(lambda offset: value(smallest * exp(offset)), ratio, steps, refinements)
    left, below = _largest_on_side(lambda offset: value(-smallest * exp(offset)), ratio, steps, refinements)
    if below > above or (below == above and left < right):
        return -smallest * exp(left), below
    return smallest * exp(right), above


def _largest_on_side(
    value: Callable[[float], float], ratio: float, steps: int, refinements: int
) -> tuple[float, float]:
    """The offset in [0, steps * ratio] with the largest value, the first of equal ones, and that value."""
    probes = {ratio * step: value(ratio * step) for step in range(steps + 1)}
    best = max(probes, key=probes.__getitem__)
    place = round(best / ratio)
    if place == steps or not refinements:
        return best, probes[best]  # on the last place it goes on growing
    low, high = ratio * max(0, place - 1), ratio * (place + 1)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    probes[left], probes[right] = value(left), value(right)
    for _ in range(refinements - 1):
        if probes[left] >= probes[right]:
            high, right = right, left
            left = high - _GOLDEN * (high - low)
            probes[left] = value(left)
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)
            probes[right] = value(right)
    best = max(probes, key=probes.__getitem__)
    return best, probes[best]
