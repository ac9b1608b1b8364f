"""Bulyan: rows picked by Krum again and again, then in every coordinate the values around their median.

Reference: El Mhamdi, Guerraoui, Rouault, The hidden vulnerability of distributed learning in Byzantium, ICML 2018,
arXiv:1802.07927. Where few rows are left, Krum counts few neighbors or none and many scores are equal, which the paper
leaves open: here the row that is nearer to all others comes first, so that the order of the clients does not matter.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Gram, Scratch, near_median_mean, near_median_share
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.defense.geometry.neighbors import krum_scores
from fedsec.errors import InputError


class Bulyan(CoordinateRule):
    """Of n - 2f rows that Krum picks one after another: in each coordinate, the mean of the n - 4f middle values.

    Krum is run again on what is left after each pick. The values that count are those nearest to the median of the
    picked ones.

    Withstands f Byzantine clients of n >= 4f + 3. Ignores the clients' weights. It takes the rows that are never picked
    for Byzantine, 2f of them. Every row rejected as not finite counts as Byzantine, so f is then one less.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: the number is negative, or too large for the rows.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n - 2f rankings of n^2 log n, and a
        second pass in which the picked values of each coordinate are partly sorted.

    Limits:
        Needs more than four times as many clients as attackers, and averages n - 4f values: with 15 clients and f = 3
        three. Min-max and min-sum stay within its distances (Shejwalkar and Houmansadr, NDSS 2021).

    Reference: El Mhamdi et al., ICML 2018, arXiv:1802.07927
    """

    by_columns = True
    detects = True
    reads_products = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("Bulyan", num_byzantine)

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        fewest = 4 * self.num_byzantine + 3
        if num_clients < fewest:
            raise InputError(
                f"Bulyan: num_byzantine {self.num_byzantine} needs at least {fewest} rows, not {num_clients}"
            )
        return self.num_byzantine

    def staged(self, cohort: Cohort) -> Cohort:
        gram = cohort.gram or Gram.of(cohort.updates, products=cohort.products)
        picked = _picks(gram.squared_distances(), self._num_byzantine(cohort))
        weights = [1 / len(picked) if row in picked else 0.0 for row in range(cohort.num_rows)]
        return replace(cohort, weights=tuple(weights), gram=gram)

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        return near_median_mean(chunk[_picked(cohort)], self._num_counting(cohort), scratch)

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        shares = torch.zeros(len(chunk), dtype=torch.float64, device=chunk.device)
        picked = _picked(cohort)
        shares[picked] = near_median_share(chunk[picked], self._num_counting(cohort), scratch)
        return shares

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        return [row for row, weight in enumerate(cohort.weights) if weight == 0]

    def _num_byzantine(self, cohort: Cohort) -> int:
        return max(0, self.num_byzantine - cohort.num_rejected)

    def _num_counting(self, cohort: Cohort) -> int:
        return cohort.num_rows - 4 * self._num_byzantine(cohort)


def _picked(cohort: Cohort) -> list[int]:
    """The rows that `staged` picked have weight."""
    return [row for row, weight in enumerate(cohort.weights) if weight > 0]


def _picks(distances: Float64[Tensor, "rows rows"], num_byzantine: int) -> set[int]:
    """The n - 2f rows that Krum picks, each from those that are left."""
    count = len(distances)
    if num_byzantine == 0:
        return set(range(count))
    distances = torch.maximum(distances, distances.T)  # the last bit may differ, and equal scores must be equal
    left = list(range(count))
    for _ in range(count - 2 * num_byzantine):
        between = distances[left][:, left]
        scores = zip(krum_scores(between, num_byzantine).tolist(), between.sum(1).tolist(), strict=True)
        left.pop(min(enumerate(scores), key=lambda scored: scored[1])[0])
    return set(range(count)) - set(left)
