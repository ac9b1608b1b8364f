"""The weighted mean: federated averaging without a defense.

Reference: McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017,
arXiv:1602.05629.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, weighted_total


class Mean(Aggregator):
    """Weighted mean of the updates; not robust, a single client can move it anywhere.

    sum_i w_i x_i / sum_i w_i

    Reference: McMahan et al., AISTATS 2017, arXiv:1602.05629
    """

    by_columns = True
    uses_weights = True
    shows_non_finite = True
    sees_mixtures = True

    def max_rejected(self, num_clients: int) -> int:
        """All but one row may be lost: the mean promises nothing that the loss could break."""
        return num_clients - 1

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        return weighted_total([(cohort.updates, cohort.row_weights().tolist())], every=True)

    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        return torch.tensor(cohort.weights, dtype=torch.float64, device=cohort.updates.device)
