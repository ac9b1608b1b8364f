"""Minimum diameter averaging: the mean of the rows that lie closest together.

Reference: El Mhamdi, Guerraoui, Guirguis, Hoang, Rouault, Genuinely distributed Byzantine machine learning, PODC 2020,
arXiv:1905.03853. The subset is found there by trying all; here by a search among pairs of distant rows, to the same
diameter.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


class MDA(GramRule):
    """Mean of the n - f rows of smallest diameter, the largest distance between two of them.

    Withstands f Byzantine clients of n >= 2f + 1. Ignores the clients' weights. Of several subsets of the smallest
    diameter, the one of the smallest sum of squared distances is taken; where two or more rows could go that no pair
    asks for, as on a grid, it is the smallest that leaving out the furthest row each time comes by. Every row rejected
    as not finite counts as Byzantine, so f is then one less.

    A subset is within a diameter if it holds none of the pairs that are further apart: of each such pair one row has to
    go, f in all. The search branches on that, and so does not try all subsets: random rows take some ten branches at
    n = 20, f = 4, and 1,500 (less than a second) at n = 100, f = 40. Where it would visit more than `max_visits`, the
    smallest diameter so far is taken, which is at most twice the smallest there is.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.
        max_visits: how many branches to visit for a diameter before the search is given up.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then at most `max_visits` branches for each
        of some 2 log2(n) diameters that are tried.

    Limits:
        Attackers within the diameter of the honest updates are averaged in, such as ALIE. f updates are always left
        out, of honest clients where nobody attacks.

    Reference: El Mhamdi et al., PODC 2020, arXiv:1905.03853
    """

    by_columns = True
    detects = True

    def __init__(self, num_byzantine: int, max_visits: int = 20_000) -> None:
        if max_visits < 0:
            raise InputError(f"MDA: max_visits must not be negative, but is {max_visits}")
        self.num_byzantine = checked_num_byzantine("MDA", num_byzantine)
        self.max_visits = max_visits

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        fewest = 2 * self.num_byzantine + 1
        if num_clients < fewest:
            raise InputError(f"MDA: num_byzantine {self.num_byzantine} needs at least {fewest} rows, not {num_clients}")
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        distances = gram.squared_distances()
        spare = max(0, self.num_byzantine - cohort.num_rejected)
        weights = torch.zeros(len(gram), dtype=torch.float64)
        weights[_closest(distances, spare, self.max_visits)] = 1.0
        return weights


def _closest(distances: Float64[Tensor, "rows rows"], spare: int, max_visits: int) -> list[int]:
    """The rows without `spare` of them, of the smallest diameter found."""
    distances = torch.maximum(distances, distances.T)  # they may differ in a last bit
    best, diameter = _nearest_to_one(distances, spare)
    levels = torch.unique(distances)
    levels = levels[(levels < diameter) & (4 * levels >= diameter * (1 - _ROUNDING))]
    low, high = 0, len(levels)  # levels from `high` on are known to do
    subset = [best]
    while low < high:
        middle = (low + high) // 2
        visits = _Visits(max_visits)
        subsets = list(_within(distances, float(levels[middle]), spare, visits, first=True))
        if subsets:
            high, subset = middle, subsets
        else:
            low = middle + 1  # there is none, or it was not found in time
    level = diameter if high == len(levels) else float(levels[high])
    subset += list(_within(distances, level, spare, _Visits(max_visits)))
    totals = [(float(distances[rows][:, rows].sum()), rows) for rows in subset]
    least = min(total for total, _ in totals)
    return min(rows for total, rows in totals if total <= least * (1 + _ROUNDING))


_ROUNDING = 1e-12


def _nearest_to_one(distances: Tensor, spare: int) -> tuple[list[int], float]:
    """A row and those nearest to it, of all such sets the one of smallest diameter: at most twice the smallest one."""
    count = len(distances) - spare
    sets = [sorted(row.sort(stable=True).indices[:count].tolist()) for row in distances]
    diameters = [float(distances[rows][:, rows].max()) for rows in sets]
    return min(zip(sets, diameters, strict=True), key=lambda known: known[1])


class _Visits:
    """Counts the branches of one search."""

    def __init__(self, most: int) -> None:
        self.left = most


def _within(
    distances: Tensor, diameter: float, spare: int, visits: _Visits, *, first: bool = False
) -> Iterator[list[int]]:
    """Subsets without `spare` rows in which no pair is further apart; the first or all of them."""
    count = len(distances)
    bits = np.packbits((distances > diameter).numpy(), axis=1, bitorder="little")
    far = [int.from_bytes(row.tobytes(), "little") for row in bits]
    for rows, more in _covers(far, (1 << count) - 1, spare, visits):
        chosen = [row for row in range(count) if rows >> row & 1]
        for _ in range(more):  # no pair asks for it: the row furthest from the others goes
            chosen.pop(int(distances[chosen][:, chosen].sum(1).argmax()))
        yield chosen
        if first:
            return


def _covers(far: list[int], rows: int, spare: int, visits: _Visits) -> Iterator[tuple[int, int]]:
    """Sets of rows, as bits, without pairs that are far apart, and how many more rows each may lose."""
    visits.left -= 1
    if visits.left < 0:
        return
    most, busiest, ends, rest = 0, 0, 0, rows
    while rest:
        row = (rest & -rest).bit_length() - 1
        rest &= rest - 1
        degree = (far[row] & rows).bit_count()
        ends += degree
        if degree > most:
            most, busiest = degree, row
    if most == 0:
        yield rows, spare
        return
    if ends > 2 * spare * most:
        return  # so few rows cannot be in so many pairs
    yield from _covers(far, rows & ~(1 << busiest), spare - 1, visits)
    if most <= spare:  # it stays, and all that are far from it go
        yield from _covers(far, rows & ~far[busiest], spare - most, visits)
