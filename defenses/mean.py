"""The weighted mean: federated averaging without a defense.

Reference: McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017,
arXiv:1602.05629.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, RowTotal, weighted_total
from fedsec.defense.weighted_total import RunningTotal


class Mean(Aggregator):
    """Weighted mean of the updates; not robust, a single client can move it anywhere.

    sum_i w_i x_i / sum_i w_i

    Cost:
        n d: one pass over the updates, or a running total of d numbers as they come.

    Limits:
        One long update moves it anywhere; what is not finite is rejected before. A client that states its own number of
        examples chooses its weight.

    Reference: McMahan et al., AISTATS 2017, arXiv:1602.05629
    """

    by_columns = True
    uses_weights = True
    shows_non_finite = True
    sees_mixtures = True
    streams = True

    def max_rejected(self, num_clients: int) -> int:
        """All but one row may be lost: the mean promises nothing that the loss could break."""
        return num_clients - 1

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        return weighted_total([(cohort.updates, cohort.row_weights().tolist())], every=True)

    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        return torch.tensor(cohort.weights, dtype=torch.float64, device=cohort.updates.device)

    def row_total(self, like: Float[Tensor, "parameters"], weights: Sequence[float]) -> RowTotal:
        return _MeanTotal(like, weights)


class _MeanTotal(RowTotal):
    """sum_i w_i x_i so far.

    Args:
        like: with the shape, dtype and device of a row.
        weights: of all clients, summing to one.
    """

    def __init__(self, like: Float[Tensor, "parameters"], weights: Sequence[float]) -> None:
        self._total, self._weights, self._clients = RunningTotal(like, weights), list[float](), len(weights)

    def add(self, rows: Float[Tensor, "some parameters"], weights: Sequence[float]) -> None:
        self._total.add(rows, weights)
        self._weights += weights

    def vector(
        self, weight: float, num_rejected: int, generator: torch.Generator | None
    ) -> Float[Tensor, "parameters"]:
        return self._total.value(1 / weight)

    def shares(self) -> Float64[Tensor, "rows"]:
        weights = torch.tensor(self._weights, dtype=torch.float64)
        return weights if len(weights) == self._clients else weights / weights.sum()
