"""Smallest maximum eigenvalue averaging: the mean of the rows that vary least in their worst direction.

Reference: Allouah, Guerraoui, Gupta, Pinot, Stephan, On the privacy-robustness-utility trilemma in distributed
learning, ICML 2023, arXiv:2302.04787.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, combinations
from math import comb

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule, top_direction
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.defense.gram_matrix import central_row
from fedsec.errors import InputError


class SMEA(GramRule):
    """Mean of the n - f rows whose covariance has the smallest top eigenvalue.

    Withstands f Byzantine clients of n >= 2f + 1. Ignores the clients' weights. Every row rejected as not finite counts
    as Byzantine, so f is then one less.

    Exact up to `max_subsets` subsets: each gets a lower bound by a few power iterations, the lowest comes first, and
    only subsets whose bound is below the smallest eigenvalue so far are taken apart. Beyond that f rows are dropped one
    after another, each time the one that lies furthest in the direction in which those that are left vary most.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.
        max_subsets: up to how many subsets of n - f of n rows to consider all of them; 20 clients with f = 4 have 4,845
            and with f = 8 125,970.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n^2 for each of the subsets, of which
        there may be `max_subsets`, and n^3 for the few that are taken apart; beyond that f times n^3.

    Limits:
        Attackers who add no variance to the honest updates' worst direction are averaged in, such as ALIE. f updates
        are always left out. Beyond `max_subsets` the subset need not be the best one.

    Reference: Allouah et al., ICML 2023, arXiv:2302.04787
    """

    by_columns = True
    detects = True

    def __init__(self, num_byzantine: int, max_subsets: int = 200_000) -> None:
        if max_subsets < 0:
            raise InputError(f"SMEA: max_subsets must not be negative, but is {max_subsets}")
        self.num_byzantine = checked_num_byzantine("SMEA", num_byzantine)
        self.max_subsets = max_subsets

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        fewest = 2 * self.num_byzantine + 1
        if num_clients < fewest:
            raise InputError(
                f"SMEA: num_byzantine {self.num_byzantine} needs at least {fewest} rows, not {num_clients}"
            )
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        distances, weights = gram.squared_distances(), torch.ones(len(gram), dtype=torch.float64)
        spare = max(0, self.num_byzantine - cohort.num_rejected)
        if comb(len(gram), spare) <= self.max_subsets:
            # About a row in the middle: about the mean, a row far away would drown how the others vary.
            return _smallest(gram.about(central_row(distances, weights / len(gram))), spare).double()
        for _ in range(spare):
            _, projections = top_direction(distances, weights)
            weights[torch.where(weights > 0, projections, -1.0).argmax()] = 0.0
        return weights


def _smallest(products: Float64[Tensor, "rows rows"], spare: int) -> Bool[Tensor, "rows"]:
    """The subset without `spare` rows whose covariance has the smallest top eigenvalue; of equal ones the first."""
    products = products / products.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)  # so that squares can be had
    dropped = _dropped(len(products), spare)
    bounds = torch.cat([_bounds(products, subsets) for subsets in _members(dropped, len(products))])
    smallest, best = float("inf"), 0
    for places in torch.split(bounds.sort(stable=True).indices, _TAKEN_APART):
        if float(bounds[places[0]]) > smallest:
            break
        values = _top_eigenvalues(products, next(_members(dropped[places], len(products))).bool())
        if float(values.min()) < smallest:
            smallest, best = float(values.min()), int(places[values.argmin()])
    return next(_members(dropped[best : best + 1], len(products)))[0].bool()


_TOGETHER = 8192
"""Bounds of so many subsets are found at once, in a processor's cache."""

_TAKEN_APART = 64
"""So many minors are taken apart before the next bounds are compared with what they gave."""

_ITERATIONS = 3
_SLACK = 1e-9
"""A bound is lower by this part, for it is rounded."""


@lru_cache(maxsize=4)
def _dropped(count: int, spare: int) -> UInt8[Tensor, "subsets spare"]:
    """All choices of `spare` of the rows."""
    choices = chain.from_iterable(combinations(range(count), spare))
    dtype = np.uint8 if count <= 256 else np.int64
    return torch.from_numpy(np.fromiter(choices, dtype=dtype).reshape(comb(count, spare), spare))


def _members(dropped: Tensor, count: int) -> Iterator[Float64[Tensor, "subsets rows"]]:
    """Ones and zeros for the rows that are in each subset, a few subsets at a time."""
    for some in torch.split(dropped, _TOGETHER):
        yield torch.ones(len(some), count, dtype=torch.float64).scatter_(1, some.long(), 0.0)


def _bounds(products: Tensor, members: Float64[Tensor, "subsets rows"]) -> Float64[Tensor, "subsets"]:
    """What no subset's top eigenvalue is below: Rayleigh quotients, from the direction of largest variance of all."""
    sizes = members.sum(1, keepdim=True)

    def centered(vectors: Tensor) -> Tensor:
        within = vectors * members
        return within - members * (within.sum(1, keepdim=True) / sizes)

    vectors = centered(torch.linalg.eigh(products).eigenvectors[:, -1].expand_as(members))
    quotients = torch.zeros(len(members), dtype=torch.float64)
    for _ in range(_ITERATIONS):
        lengths = vectors.norm(dim=1, keepdim=True)
        vectors = vectors / torch.where(lengths > 0, lengths, 1.0)
        images = centered(vectors @ products)
        quotients = torch.maximum(quotients, (vectors * images).sum(1))
        vectors = images
    return quotients * (1 - _SLACK)


def _top_eigenvalues(products: Tensor, members: Bool[Tensor, "subsets rows"]) -> Float64[Tensor, "subsets"]:
    rows = members.nonzero()[:, 1].view(len(members), -1)
    minors = products[rows[:, :, None], rows[:, None, :]]
    minors = minors - minors.mean(1, keepdim=True) - minors.mean(2, keepdim=True) + minors.mean((1, 2), keepdim=True)
    values: Tensor = torch.linalg.eigvalsh(minors)
    return values[:, -1]
