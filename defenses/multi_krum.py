"""Multi-Krum: the mean of the updates whose nearest neighbors are nearest.

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
from fedsec.errors import InputError


@final
class MultiKrum(GramRule):
    """Mean of the updates with the smallest sums of squared distances to their nearest neighbors.

    score_i = sum of ||x_i - x_j||^2 over the n - f - 2 nearest others j; the mean of the m rows of smallest score.

    Withstands f Byzantine clients of n >= 2f + 3; m = 1 is Krum. Ignores the clients' weights. Every row rejected as
    not finite counts as Byzantine, so f is then one less. Of equal scores the first row's counts. It takes the f rows
    of largest score for Byzantine.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.
        num_selected: m, from 1 to n - f; null: n - f of them.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n^2 log n.

    Limits:
        Attackers whose updates lie no further apart than honest ones are counted: min-max, Fang's attack. f updates are
        always left out; where clients' data differ, honest ones among them.

    Reference: Blanchard et al., NeurIPS 2017, arXiv:1703.02757
    """

    by_columns = True
    detects = True

    def __init__(self, num_byzantine: int, num_selected: int | None = None) -> None:
        if num_selected is not None and num_selected < 1:
            raise InputError(f"MultiKrum: num_selected must be at least 1, but is {num_selected}")
        self.num_byzantine = checked_num_byzantine("MultiKrum", num_byzantine)
        self.num_selected = num_selected

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        check_enough_for_krum("MultiKrum", self.num_byzantine, num_clients)
        if self.num_selected is not None and self.num_selected > num_clients - self.num_byzantine:
            raise InputError(
                f"MultiKrum: num_selected {self.num_selected} of {num_clients} rows would take Byzantine ones; "
                f"expected at most {num_clients - self.num_byzantine}"
            )
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        weights = torch.zeros(len(gram), dtype=torch.float64)
        num_counting = self.num_selected or len(gram) - self.num_byzantine + cohort.num_rejected
        weights[self._ranking(gram, cohort)[:num_counting]] = 1.0
        return weights

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        gram = cohort.gram or Gram.of(cohort.updates)
        return self._ranking(gram, cohort)[len(gram) - self.num_byzantine + cohort.num_rejected :]

    def _ranking(self, gram: Gram, cohort: Cohort) -> list[int]:
        return krum_ranking(gram.squared_distances(), self.num_byzantine - cohort.num_rejected)
