"""SignGuard: updates of a usual length whose signs are distributed like most others'.

Reference: Xu, Huang, Song, Lan, Byzantine-robust federated learning through collaborative malicious gradient filtering,
ICDCS 2022, arXiv:2109.05872. Details of the clustering are those of the authors' code.
"""

from math import isfinite

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.geometry.clusters import largest_cluster, mean_shift
from fedsec.errors import InputError

_WINDOW = 0.1
"""Share of the coordinates whose signs are counted."""

_QUANTILE = 0.5
"""Mean shift looks as far as to so many of the other points, on average."""


class SignGuard(GramRule):
    """Mean of the updates that pass two filters, each shortened to the median norm.

    With M the median of all norms, those pass the first whose norm lies between `shortest` M and `longest` M. The
    second counts positive, zero and negative signs in a tenth of the coordinates, drawn anew each round as one stretch,
    divides each of the three shares by the largest of all clients, and clusters the clients by mean shift; the largest
    cluster passes. Where nobody passes both, the result is zero: no step.

    Withstands a minority of Byzantine clients, says the paper, if their updates show in length or signs. Ignores the
    clients' weights. The paper's variants that also look at a similarity to the last aggregate are left out.

    Args:
        shortest: least norm, as a share of the median.
        longest: largest norm, as a share of the median.

    Raises:
        InputError: the shares are not in order around 1.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; one pass over a tenth of the coordinates;
        then the clustering of n points.

    Limits:
        An update of usual length with the usual shares of signs passes, wherever it points. Honest clients with
        unlike data may be outside of the largest cluster.

    Reference: Xu et al., ICDCS 2022, arXiv:2109.05872
    """

    normalized = False
    detects = True
    draws = True

    def __init__(self, shortest: float = 0.1, longest: float = 3.0) -> None:
        if not (0 <= shortest <= 1 <= longest and isfinite(longest)):
            raise InputError(f"SignGuard: expected 0 <= shortest <= 1 <= longest, got {shortest} and {longest}")
        self.shortest, self.longest = shortest, longest

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority."""
        return (num_clients - 1) // 2

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        norms = gram.squared_norms().sqrt()
        median = float(norms.quantile(0.5))
        usual = (norms >= self.shortest * median) & (norms <= self.longest * median)
        alike = largest_cluster(mean_shift(_sign_shares(_window(cohort)), _QUANTILE))
        passing = (usual & alike).double()
        return passing / passing.sum().clamp_min(1) * torch.where(norms > median, median / norms, 1.0)


def _window(cohort: Cohort) -> Float[Tensor, "rows columns"]:
    """A tenth of the columns that the rule sees, one at least."""
    size = cohort.updates.shape[1]
    width = max(1, int(_WINDOW * size))
    start = int(torch.randint(size - width + 1, (1,), generator=cohort.generator))
    return cohort.rows(slice(start, start + width))


def _sign_shares(chunk: Float[Tensor, "rows columns"]) -> Float64[Tensor, "rows 3"]:
    """How many signs are positive, zero and negative, each as a share of the most that a row has."""
    counts = torch.stack([(chunk > 0).sum(1), (chunk == 0).sum(1), (chunk < 0).sum(1)], 1).double().cpu()
    return counts / counts.amax(0).clamp_min(1)
