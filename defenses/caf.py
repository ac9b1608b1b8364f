"""CAF, the covariance-bound agnostic filter: rows lose weight by how far they lie in the direction of largest variance.

Reference: Allouah, Guerraoui, Stephan, Towards trustworthy federated learning with untrusted participants, ICML 2025,
arXiv:2505.01874. Directions are exact and not drawn. Of rows that have lost all weight, none sets the pace, so at least
one more loses its weight at each step.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule, top_direction
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


class CAF(GramRule):
    """Weighted mean under which the covariance's largest eigenvalue is smallest, of those that filtering comes by.

    c_i = 1, and while sum_i c_i > n - 2f: v, the top eigenvector of the covariance weighted by c;
    t_i = <v, x_i - mean>^2; c_i <- c_i (1 - t_i / max t). The mean of the weights whose top eigenvalue was smallest.

    Withstands f Byzantine clients of n >= 2f + 1 without a bound on the honest variance. Ignores the clients' weights.
    Every row rejected as not finite counts as Byzantine, so f is then one less.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: the number is negative, or too large for the rows.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n^3 for each step, at most n of them.

    Limits:
        Attackers who lie within the honest updates' variance keep their weight, such as ALIE.

    Reference: Allouah et al., ICML 2025, arXiv:2505.01874
    """

    by_columns = True
    detects = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("CAF", num_byzantine)

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        fewest = 2 * self.num_byzantine + 1
        if num_clients < fewest:
            raise InputError(f"CAF: num_byzantine {self.num_byzantine} needs at least {fewest} rows, not {num_clients}")
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        distances, count = gram.squared_distances(), len(gram)
        fewest = count - 2 * max(0, self.num_byzantine - cohort.num_rejected)
        weights = torch.ones(count, dtype=torch.float64)
        best, smallest = weights, float("inf")
        while float(weights.sum()) > fewest:
            variance, projections = top_direction(distances, weights)
            if variance < smallest:
                best, smallest = weights, variance
            furthest = float(projections[weights > 0].max())
            if furthest <= 0:
                break  # all that have weight are equal
            weights = weights * (1 - projections / furthest).clamp_min(0)
        return best
