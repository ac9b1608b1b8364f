"""How far values differ from seed to seed, and whether two settings can be told apart by their seeds.

An interval's ends are values that occurred, so it never leaves the metric's range, and it assumes no distribution: from
six seeds on it covers the median over seeds with at least 95%, and of fewer seeds it is the smallest and the largest,
which cover the median with 1 - 2^(1 - n) only: 75% of three seeds. Whether two settings differ is told by their
differences on equal seeds, which are unbounded and close to normal: Student's 95% interval of their mean leaves out 0.
The best and the worst of many settings were picked for being far apart; among them intervals hold for all pairs at once
(Bonferroni), or else ten equal settings and five seeds had a "best" one in a third of all tables.

Reference: intervals between order statistics: David, Nagaraja, Order Statistics, 3rd edition, Wiley 2003, chapter 7.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.95


def interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The narrowest symmetric pair of order statistics that covers the median with 95%, or else the extremes.

    Args:
        values: `[seeds, ...]`, independent along the first axis, at least one of them.

    Returns:
        Its ends, `[...]` each.
    """
    ordered = np.sort(values, axis=0)
    outside = _left_out(len(values))
    return ordered[outside], ordered[len(values) - 1 - outside]


def _left_out(number: int) -> int:
    """How many values may lie beyond each end: P(median below the k-th smallest of n) = sum of C(n, i) / 2^n, i < k."""
    beyond, outside = 1.0, 0
    while 2 * (beyond + math.comb(number, outside + 1)) / 2.0**number <= 1 - COVERAGE:
        outside += 1
        beyond += math.comb(number, outside)
    return outside


def differences(one: Mapping[str, float], other: Mapping[str, float]) -> list[float]:
    """What `one` has more than `other`, on the seeds that both have."""
    return [one[seed] - other[seed] for seed in one if seed in other]


_FEWEST = 3


def direction(one: Mapping[str, float], other: Mapping[str, float], *, settings: int = 2) -> Literal[-1, 0, 1]:
    """Whether values are larger (1) or smaller (-1) than others as far as equal seeds tell; 0 where they do not.

    Fewer than three equal seeds never do: on a small test set two differences are equal by chance, and their spread 0.

    Args:
        one: seed -> value.
        other: seed -> value.
        settings: among how many the two were picked for their values.
    """
    paired = differences(one, other)
    if len(paired) < _FEWEST:
        return 0
    mean = math.fsum(paired) / len(paired)
    if abs(mean) <= half_width(paired, comparisons=math.comb(settings, 2)) or mean == 0:
        return 0
    return 1 if mean > 0 else -1


def half_width(values: Sequence[float], *, comparisons: int = 1) -> float:
    """Half the width of Student's 95% interval for a mean: t(n - 1, 0.975) * s / sqrt(n).

    Args:
        values: at least two.
        comparisons: how many such intervals are to hold together with 95%: t(n - 1, 1 - 0.025 / comparisons).
    """
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, 1 - (1 - COVERAGE) / (2 * comparisons)))
    return quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def spans(seeds: int) -> str:
    """What an interval over so many seeds is, for the legend of a table."""
    if _left_out(seeds) or 1 - 2.0 ** (1 - seeds) >= COVERAGE:
        return f"in brackets what covers the median over seeds with {100 * COVERAGE:.0f}%, where it has a width"
    return "in brackets the smallest and the largest of them, where they differ"
