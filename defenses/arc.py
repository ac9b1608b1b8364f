"""Adaptive robust clipping: before a robust rule combines them, the longest updates are shortened to the next one.

Reference: Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, Adaptive gradient clipping for robust federated learning,
ICLR 2025, arXiv:2405.14432.
"""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, PreAggregator
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.defense.geometry.clipping import shortening
from fedsec.errors import InputError


@final
class ARC(PreAggregator):
    """Shortens the k longest updates to the length of the next one, with k = floor(2 (f / n) (n - f)).

    For f Byzantine clients of n > 2f; what is an honest length is read off the updates themselves, so a rule stays
    robust in spite of the clipping. Every row rejected as not finite counts as Byzantine, so f and n are then one less.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: it is negative, or no whole number.

    Cost:
        n^2 d for the inner products of all updates, of which it needs the norms; then n log n.

    Limits:
        Shortens; it does not tell directions apart. k honest updates are shortened where nobody attacks, too. What is
        left is for the rule after it.

    Reference: Allouah et al., ICLR 2025, arXiv:2405.14432
    """

    by_columns = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("ARC", num_byzantine)

    def num_mixed(self, num_clients: int) -> int:
        if num_clients <= 2 * self.num_byzantine:
            raise InputError(
                f"ARC: num_byzantine {self.num_byzantine} needs at least {2 * self.num_byzantine + 1} rows, not "
                f"{num_clients}"
            )
        return num_clients

    def mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        count, num_byzantine = len(gram), max(0, self.num_byzantine - cohort.num_rejected)
        num_shortened = 2 * num_byzantine * (count - num_byzantine) // count
        norms = gram.squared_norms().sqrt()
        bound = float(norms.sort(descending=True).values[num_shortened])
        return torch.diag(shortening(norms, bound))
