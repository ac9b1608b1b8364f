"""Comparative gradient elimination: the longest updates are left out.

Reference: Gupta, Vaidya, Byzantine fault-tolerance in parallelized stochastic gradient descent, PODC 2020,
arXiv:1909.12488 names it; the analysis is in Gupta, Liu, Vaidya, arXiv:2008.04699.
"""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


@final
class CGE(GramRule):
    """Mean of the n - f updates of smallest norm, for f Byzantine clients of n > 2f.

    Byzantine updates are no longer than honest ones, but may point anywhere: it needs honest updates that agree. It
    measures from the origin, so a part that all updates share matters. The published rule adds up what it keeps; here
    it is the mean, as of other rules. Ignores the clients' weights. Every row rejected as not finite counts as
    Byzantine, so f is then one less. Of equal norms the first row's counts.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: it is negative, or no whole number.

    Cost:
        n^2 d for the inner products of all updates, of which it needs the norms; then n log n.

    Limits:
        An update that is no longer than honest ones counts, wherever it points: IPM, sign flipping. f updates are
        always left out.

    Reference: Gupta, Vaidya, PODC 2020
    """

    by_columns = True
    detects = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("CGE", num_byzantine)

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        if num_clients <= 2 * self.num_byzantine:
            raise InputError(
                f"CGE: num_byzantine {self.num_byzantine} needs at least {2 * self.num_byzantine + 1} rows, not "
                f"{num_clients}"
            )
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        num_counting = len(gram) - self.num_byzantine + cohort.num_rejected
        weights = torch.zeros(len(gram), dtype=torch.float64)
        weights[gram.squared_norms().sort(stable=True).indices[:num_counting]] = 1.0
        return weights
