"""Shares that are real numbers become numbers of examples."""

import math
from typing import Any

import numpy as np

from fedsec.data.partitions.partition import Floats, Ints
from fedsec.errors import PartitionError

TRIES = 1_000
"""How often a partition is drawn before it gives up on its minimum."""

_FIRST = 20
"""Draws after which it is asked whether further ones are worth it."""

_HOPELESS = 50
"""Clients below the minimum in the best draw so far: about a Poisson number, which is zero once in e^50 draws."""


def hopeless(draws: int, fewest_short: int) -> bool:
    """Whether no further draw will keep the minimum: a hundred thousand clients take a second each time.

    Args:
        draws: how many there were.
        fewest_short: how many clients were below the minimum in the draw with the fewest of them.
    """
    return draws >= _FIRST and fewest_short > _HOPELESS


def apportion(shares: Floats, totals: Ints) -> Ints:
    """Whole numbers in proportion to the shares, each row by itself.

    The edges between neighbors are rounded, so rows with equal shares round equally: right for one row, or for rows
    whose shares have nothing to do with each other.

    Args:
        shares: of each recipient, [rows, recipients], not negative; a row need not sum to 1.
        totals: of each row.

    Returns:
        [rows, recipients]. Row i sums to totals[i] exactly; each entry is within one of totals[i] x its share, and 0
        where the share is 0.
    """
    cumulative = np.cumsum(shares, axis=1)
    edges = np.rint(cumulative / cumulative[:, -1:] * totals[:, None]).astype(np.int64)
    counts: Ints = np.diff(edges, axis=1, prepend=0)
    return counts


def apportion_jointly(shares: Floats, totals: Ints) -> Ints:
    """Whole numbers in proportion to the shares, such that what one row's rounding took another gives back.

    Largest remainders, row after row, where a recipient's remainder counts what earlier rows owe it: its sum over
    all rows so far stays near its due, where rows that round equally would add up to rows x the same error.

    Args:
        shares: see `apportion`.
        totals: see `apportion`.

    Returns:
        See `apportion`; each entry is its due rounded down or up.
    """
    counts = np.zeros(shares.shape, np.int64)
    owed = np.zeros(shares.shape[1])
    for row, (share, total) in enumerate(zip(shares, totals, strict=True)):
        due = share / share.sum() * total
        counts[row] = np.floor(due + 1e-9)
        left = int(total - counts[row].sum())
        owed += due - counts[row]
        # Whoever has a whole number already gets no more of this row.
        remainder = np.where(due - counts[row] > 1e-9, owed, -np.inf)
        winners = np.argsort(-remainder, kind="stable")[:left]
        counts[row, winners] += 1
        owed[winners] -= 1
    return counts


def dirichlet(alpha: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Draws of a Dirichlet distribution, one a row."""
    shares = rng.dirichlet(alpha, size=draws)
    if not np.isfinite(shares).all():
        raise PartitionError(
            f"alpha is beyond what can be drawn from ({alpha.min():g}..{alpha.max():g}); expected about 0.001..1e6"
        )
    return shares


def sorted_by_stratum(strata: Ints, rng: np.random.Generator) -> Ints:
    """Numbers of the examples stratum by stratum, within a stratum in random order."""
    shuffled = rng.permutation(len(strata))
    return shuffled[np.argsort(strata[shuffled], kind="stable")]


def positive(name: str, value: Any) -> float:
    """An option that is a finite number above 0, or a PartitionError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise PartitionError(f"{name} must be a finite number greater than 0, got {value!r}")
    return float(value)
