"""DnC, divide and conquer: outliers along the direction of largest variance, on a few coordinates at a time.

Reference: Shejwalkar, Houmansadr, Manipulating the Byzantine: optimizing model poisoning attacks and defenses for
federated learning, NDSS 2021.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule, top_direction
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


class DnC(GramRule):
    """Mean of the rows that are no outliers on any of several random sets of coordinates.

    Each time: b coordinates, drawn without replacement; the top right singular vector v of the rows about their mean;
    the floor(c f) rows of largest <v, x_i - mean>^2 are dropped. The mean of the rows that were never dropped; should
    every row have been dropped at some time, of those that were dropped least often.

    For n >= 2f + 1, and fewer than n dropped at a time. Ignores the clients' weights. Every row rejected as not finite
    counts as Byzantine, so f is then one less.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.
        num_iters: how many times.
        sub_dim: b, how many coordinates to draw; all of them, where there are no more.
        filter_frac: c, how many rows to drop at a time for each Byzantine one.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then, each time, n^2 b for those of the
        drawn coordinates and n^3 for a singular vector.

    Limits:
        Drops rows along one direction at a time: attackers who do not share one add up to less there. floor(c f) rows
        are dropped at a time where nobody attacks, too.

    Reference: Shejwalkar and Houmansadr, NDSS 2021
    """

    draws = True
    detects = True

    def __init__(self, num_byzantine: int, num_iters: int = 5, sub_dim: int = 10_000, filter_frac: float = 1.0) -> None:
        if num_iters < 1 or sub_dim < 1:
            raise InputError(f"DnC: num_iters and sub_dim must be at least 1, but are {num_iters} and {sub_dim}")
        if not 0 < filter_frac < float("inf"):
            raise InputError(f"DnC: filter_frac must be a positive number, but is {filter_frac}")
        self.num_byzantine = checked_num_byzantine("DnC", num_byzantine)
        self.filter_frac = filter_frac
        self.num_iters, self.sub_dim = num_iters, sub_dim

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        fewest = max(2 * self.num_byzantine, self._num_dropped(self.num_byzantine)) + 1
        if num_clients < fewest:
            raise InputError(
                f"DnC: num_byzantine {self.num_byzantine} and filter_frac {self.filter_frac} need at least {fewest} "
                f"rows, not {num_clients}"
            )
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        num_dropped = self._num_dropped(max(0, self.num_byzantine - cohort.num_rejected))
        count, dimension = len(gram), cohort.updates.shape[1]
        equal = torch.ones(count, dtype=torch.float64)
        drops = torch.zeros(count, dtype=torch.int64)
        for _ in range(self.num_iters):
            some = gram
            if self.sub_dim < dimension:
                columns = torch.randperm(dimension, generator=cohort.generator)[: self.sub_dim]
                some = Gram.of(cohort.rows(columns.to(cohort.updates.device)))
            _, projections = top_direction(some.squared_distances(), equal)
            drops[projections.sort(descending=True, stable=True).indices[:num_dropped]] += 1
        return (drops == drops.min()).double()

    def _num_dropped(self, num_byzantine: int) -> int:
        return int(self.filter_frac * num_byzantine + 1e-9)
