"""Weighted medians and trimmed means of the columns of a chunk, and whose values they are made of.

Every row has a weight, the same in all columns. What has to be found in a column is the value at which the weight of
all values up to it reaches a threshold. Sorting rows together with their weights costs three times as much as sorting
them alone; so they are sorted alone, and the rank is searched by halves: the weight up to a candidate is one comparison
of the rows with it and one product with the weights. The weights alone say between which ranks the value must be, which
saves most of the steps where they are not very different.

Weights count in whole units, 2^22 in all. Float32 holds their sums exactly, and the halves in between, which thresholds
are: no sum is equal to one. A threshold that is missed by no more than the rounding to units can do (at most half a
unit for each row, some two millionths of the weight for 20) counts as met exactly.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import ceil, floor
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.order_statistics import Scratch, accumulator_dtype
from fedsec.defense.selection_network import sorting_network

__all__ = ["weighted_median", "weighted_median_share", "weighted_trimmed_mean", "weighted_trimmed_share"]


def weighted_median(
    chunk: Float[Tensor, "rows columns"], weights: tuple[float, ...], scratch: Scratch
) -> Float[Tensor, "columns"]:
    """The midpoint of the lower and the upper weighted median of each column.

    The lower one is the smallest value such that the values up to it have half of the weight, the upper one the largest
    such that those from it on have.

    Args:
        chunk: finite values.
        weights: one for each row, not negative, summing to one.
        scratch: this thread's buffers; the result may live there until the next call.

    Returns:
        One value a column, in the dtype of `chunk`.
    """
    low, high = _medians(chunk, weights, scratch)
    return (low * 0.5 + high * 0.5).to(chunk.dtype)


def weighted_median_share(
    chunk: Float[Tensor, "rows columns"], weights: tuple[float, ...], scratch: Scratch
) -> Float64[Tensor, "rows"]:
    """How much of what `weighted_median` gives came from each row; equal values share by weight."""
    mass = torch.tensor(weights, dtype=torch.float64, device=chunk.device)
    shares = torch.zeros_like(mass)
    for value in _medians(chunk, weights, scratch):
        at = mass[:, None] * (chunk == value)
        shares += (at / at.sum(0)).sum(1) / 2
    return shares / chunk.shape[1]


def weighted_trimmed_mean(
    chunk: Float[Tensor, "rows columns"], weights: tuple[float, ...], trim: float, scratch: Scratch
) -> Float[Tensor, "columns"]:
    """Weighted mean of each column without the smallest and the largest values that have a share of the weight.

    A value that is partly in that share counts for the rest of its weight.

    Args:
        chunk: finite values.
        weights: one for each row, not negative, summing to one.
        trim: the share of the weight to cut at each end, in [0, 0.5).
        scratch: this thread's buffers; the result may live there until the next call.

    Returns:
        One value a column, always finite, in the dtype of `chunk`.
    """
    # With the values outside drawn to the edges, the cut shares are known: they are at the edges.
    low, high = _edges(chunk, weights, trim, scratch)
    wide = accumulator_dtype(chunk.dtype)
    # A quarter of everything, since a difference of the largest numbers would overflow.
    quarters = torch.tensor([weight / 4 for weight in weights], dtype=wide, device=chunk.device)
    total = torch.empty(chunk.shape[1], dtype=wide, device=chunk.device)
    for part in _parts(chunk):
        drawn = scratch.matrix("up to", len(chunk), chunk[:, part], wide)
        torch.mv(torch.clamp(chunk[:, part], low[part], high[part], out=drawn).T, quarters, out=total[part])
    total.sub_(low, alpha=trim / 4).sub_(high, alpha=trim / 4)
    largest = torch.finfo(chunk.dtype).max / 4 * (1 - 2 * trim)
    return total.clamp_(-largest, largest).mul_(4 / (1 - 2 * trim)).to(chunk.dtype)


def weighted_trimmed_share(
    chunk: Float[Tensor, "rows columns"], weights: tuple[float, ...], trim: float, scratch: Scratch
) -> Float64[Tensor, "rows"]:
    """How much of what `weighted_trimmed_mean` averages came from each row; equal values share by weight."""
    low, high = _edges(chunk, weights, trim, scratch)
    mass = torch.tensor(weights, dtype=torch.float64, device=chunk.device)[:, None]
    at_low, at_high = mass * (chunk == low), mass * (chunk == high)
    shares = mass * ((chunk > low) & (chunk < high))
    kept_low = ((mass * (chunk <= low)).sum(0) - trim).clamp_min(0)
    kept_high = ((mass * (chunk >= high)).sum(0) - trim).clamp_min(0)
    shares += torch.where(
        low == high, at_low, at_low * (kept_low / at_low.sum(0)) + at_high * (kept_high / at_high.sum(0))
    )
    return (shares / shares.sum(0)).sum(1) / chunk.shape[1]


def _medians(chunk: Tensor, weights: tuple[float, ...], scratch: Scratch) -> tuple[Tensor, Tensor]:
    """The lower and the upper weighted median of each column."""
    units = _units(weights)
    half, slack = sum(units) / 2, _slack(weights)
    lower, upper = ceil(half - slack) - 0.5, floor(half + slack) + 0.5
    ranks = _ranks(units, lower, upper)
    rows = _sorted(chunk, ranks, scratch)
    ((low, reached),) = _search(chunk, units, [(rows, lower)], scratch)
    high = low.clone()
    both = (reached < upper).nonzero().flatten()
    if len(both):  # the weight is divided exactly
        some = [row[both] for row in rows]
        ((high[both], _),) = _search(chunk[:, both], units, [(some, upper)], scratch)
    return low, high


def _edges(chunk: Tensor, weights: tuple[float, ...], trim: float, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each column that is not cut off whole."""
    units = _units(weights)
    total = sum(units)
    cut = trim * total + min(_slack(weights), (1 - 2 * trim) * total / 4)
    cut = floor(cut + 0.25) + 0.5  # no sum of units is equal to it, nor to what it leaves of all of them
    below, above = _ranks(units, cut, cut), _ranks(units, total - cut, total - cut)
    rows = dict(zip((*below, *above), _sorted(chunk, (*below, *above), scratch), strict=True))
    searches = [([rows[rank] for rank in below], cut), ([rows[rank] for rank in above], total - cut)]
    (low, _), (high, _) = _search(chunk, units, searches, scratch)
    return low, high


_UNITS = 2**22


@lru_cache(maxsize=16)
def _units(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Weights in whole units."""
    return tuple(round(weight * _UNITS) for weight in weights)


@lru_cache(maxsize=16)
def _slack(weights: tuple[float, ...]) -> int:
    """By how many units rounding to whole ones can change any sum, at most."""
    errors = [weight * _UNITS - round(weight * _UNITS) for weight in weights]
    return ceil(max(sum(error for error in errors if error > 0), -sum(error for error in errors if error < 0)))


def _ranks(units: Sequence[int], lower: float, upper: float) -> tuple[int, ...]:
    """Which ranks can be the first at which the weight reaches thresholds from `lower` to `upper`."""
    light, heavy = accumulate(sorted(units)), accumulate(sorted(units, reverse=True))
    first = next(rank for rank, weight in enumerate(heavy) if weight >= lower)
    last = next(rank for rank, weight in enumerate(light) if weight >= upper)
    return tuple(range(first, last + 1))


def _sorted(chunk: Tensor, ranks: tuple[int, ...], scratch: Scratch) -> list[Tensor]:
    network = sorting_network(len(chunk), tuple(dict.fromkeys(ranks)))
    rows = network(chunk.unbind(0), scratch.rows("network", network.num_buffers, chunk))
    known = dict(zip(dict.fromkeys(ranks), rows, strict=True))
    return [known[rank] for rank in ranks]


class _Found(NamedTuple):
    values: Tensor
    weights: Tensor


def _search(
    chunk: Tensor, units: Sequence[int], searches: Sequence[tuple[list[Tensor], float]], scratch: Scratch
) -> list[_Found]:
    """The first of some candidates at which the weight of values up to it reaches a threshold, and that weight.

    Args:
        chunk: the rows.
        units: of the rows.
        searches: candidates, rising in each column, and a threshold to which no sum of units is equal. The last
            candidate reaches it in any case, and its weight is given as infinite where it was not needed.
        scratch: this thread's buffers.
    """
    wide = accumulator_dtype(chunk.dtype)
    masses = torch.tensor([units], dtype=wide, device=chunk.device)
    results = [_Found(*torch.empty((2, chunk.shape[1]), dtype=wide, device=chunk.device)) for _ in searches]
    for part in _parts(chunk):
        rows = chunk[:, part]
        up_to = scratch.matrix("up to", len(rows), rows, wide)
        weight, bound = scratch.matrix("weight", 1, rows, wide), scratch.rows("bound", 1, rows, wide)[0]
        for (candidates, threshold), result in zip(searches, results, strict=True):
            some = [candidate[part] for candidate in candidates]
            reached = result.weights[part].fill_(torch.inf)
            while len(some) > 1:
                middle = (len(some) - 1) // 2
                torch.mm(masses, torch.le(rows, some[middle], out=up_to), out=weight)
                # Minus infinity where the weight is enough, else infinity: one bound then chooses between two values.
                torch.sub(weight[0], threshold, out=bound).mul_(-torch.inf)
                torch.minimum(reached, torch.maximum(weight[0], bound), out=reached)
                low, high = some[: middle + 1], some[middle + 1 :]
                high += high[-1:] * (len(low) - len(high))
                some = [
                    torch.minimum(above, torch.maximum(below, bound)) for below, above in zip(low, high, strict=True)
                ]
            result.values[part] = some[0]
    return results


_CPU_COLUMNS = 8192
"""Comparisons of the rows with candidates of so many columns stay in the cache."""


def _parts(chunk: Tensor) -> list[slice]:
    columns = chunk.shape[1]
    width = _CPU_COLUMNS if chunk.device.type == "cpu" else columns
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]
