"""The medoid: the update that is nearest to all others."""

import torch
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule


class Medoid(GramRule):
    """The update whose distances to all others have the smallest sum.

    Withstands any minority of Byzantine clients, as the geometric median does, which it takes from among the rows.

    Reference: Kaufman and Rousseeuw, Clustering by means of medoids, 1987
    """

    detects = False

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority."""
        return (num_clients - 1) // 2

    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        weights = torch.zeros(len(gram), dtype=torch.float64)
        weights[gram.squared_distances().sqrt().sum(1).argmin()] = 1.0
        return weights
