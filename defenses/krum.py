"""Krum: the update whose nearest neighbors are nearest.

Reference: Blanchard, El Mhamdi, Guerraoui, Stainer, Machine learning with adversaries: Byzantine tolerant gradient
descent, NeurIPS 2017, arXiv:1703.02757.
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.defense.geometry.neighbors import check_enough_for_krum, krum_ranking


@final
class Krum(GramRule):
    """The update with the smallest sum of squared distances to its nearest neighbors, as it is.

    score_i = sum of ||x_i - x_j||^2 over the n - f - 2 nearest others j; the row of smallest score.

    Withstands f Byzantine clients of n >= 2f + 3. Ignores the clients' weights. Every row rejected as not finite counts
    as Byzantine, so f is then one less. Of equal scores the first row's counts. It takes the f rows of largest score
    for Byzantine, though it uses but one of the others.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: it is negative, or no whole number.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n^2 log n.

    Limits:
        Equal updates of several attackers within the honest ones' cluster are each other's nearest neighbors, and are
        chosen. The result is one client's update, with all its noise; where clients' data differ, all but one client go
        unheard.

    Reference: Blanchard et al., NeurIPS 2017, arXiv:1703.02757
    """

    by_columns = True
    detects = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("Krum", num_byzantine)

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        check_enough_for_krum("Krum", self.num_byzantine, num_clients)
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        weights = torch.zeros(len(gram), dtype=torch.float64)
        weights[self._ranking(gram, cohort)[0]] = 1.0
        return weights

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        gram = cohort.gram or Gram.of(cohort.updates)
        return self._ranking(gram, cohort)[len(gram) - self.num_byzantine + cohort.num_rejected :]

    def _ranking(self, gram: Gram, cohort: Cohort) -> list[int]:
        return krum_ranking(gram.squared_distances(), self.num_byzantine - cohort.num_rejected)
