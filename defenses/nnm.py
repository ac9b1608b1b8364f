"""Nearest-neighbor mixing: each update becomes the mean of those nearest to it, before a robust rule combines them.

Reference: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, Fixing by mixing: a recipe for optimal Byzantine ML
under heterogeneity, AISTATS 2023, arXiv:2302.01772.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, PreAggregator
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


class NNM(PreAggregator):
    """Replaces each update by the mean of the n - f updates nearest to it, itself included.

    y_i = 1 / (n - f) sum of x_j over the n - f nearest j, for n > 2f Byzantine clients or fewer.

    Honest clients with different data come closer together, and robust rules lose less of them. Every row rejected as
    not finite counts as Byzantine, so f is then one less.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: it is negative, or no whole number.

    Cost:
        n^2 log n, beside the inner products, n^2 d, that a rule which works from them needs anyway.

    Limits:
        An attacker near honest updates is mixed into them: each of the new ones may hold f Byzantine ones of its n - f.
        What is left is for the rule after it.

    Reference: Allouah et al., AISTATS 2023, arXiv:2302.01772
    """

    by_columns = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("NNM", num_byzantine)

    def num_mixed(self, num_clients: int) -> int:
        if num_clients <= 2 * self.num_byzantine:
            raise InputError(
                f"NNM: num_byzantine {self.num_byzantine} needs at least {2 * self.num_byzantine + 1} rows, not "
                f"{num_clients}"
            )
        return num_clients

    def mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        count = len(gram)
        neighbors = count - max(0, self.num_byzantine - cohort.num_rejected)
        distances = gram.squared_distances()
        distances.fill_diagonal_(-1.0)  # itself first, also among equal rows
        nearest = distances.sort(dim=1, stable=True).indices[:, :neighbors]
        return torch.zeros(count, count, dtype=torch.float64).scatter_(1, nearest, 1 / neighbors)
