"""ClippedGossip: what differs from one's own model too much is shortened before it is averaged.

Reference: He, Karimireddy, Jaggi, Byzantine-robust decentralized learning via ClippedGossip, 2022, arXiv:2202.01545.
"""

from math import isfinite
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.defense.geometry.clipping import shortening
from fedsec.errors import InputError


@final
class ClippedGossip(GramRule):
    """Weighted mean of the rows, each shortened to a radius about zero: among neighbors, about a client's own model.

    sum_j W_j z_j min(1, tau / ||z_j||), z_j = x_j - x

        tau^2 = sum_{j in S} W_j ||z_j||^2 / delta

    where delta is the weight of the `num_byzantine` longest rows and S are the others: as far as honest neighbors are
    apart, the more so the less weight attackers have. `radius` gives tau itself. Made for federations without a server,
    where the weights are the mixing matrix's and nobody states them. At a server it clips about the model that it sent,
    and clients' weights count as in the mean.

    The paper's oracle sums over honest neighbors and divides by what Byzantine ones weigh; its practical rule knows
    delta_max alone, the most that they may weigh, and takes for S the nearest rows that fit into 1 - delta_max.

    Ours: `num_byzantine` in place of delta_max, as all rules take it. Where attackers are the longest rows this is the
    oracle. With equal weights of n rows it is the practical rule for delta_max = num_byzantine / n; with others, the
    longest rows may weigh less than an attacker who stays near, and the radius is then longer than the oracle's. Every
    row rejected as not finite counts as one of them. The authors' training code takes the second longest distance in
    place of the formula, their code on consensus the oracle.

    Args:
        num_byzantine: how many Byzantine rows to withstand, of more than twice as many; of one neighborhood.
        radius: tau, in the rows' own units; found anew for each round by default.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all rows, of which it needs the norms; one pass for the mean.

    Limits:
        Tells nobody apart: attackers move a model by their weight times the radius in every step, and a radius that
        follows the honest rows is long where clients have unlike data. Rows that cancel the honest ones within the
        radius (dissensus: `ipm` with epsilon (n - m) / m) keep clients apart.

    Example:
        num_byzantine: 1

    Reference: He, Karimireddy, Jaggi, 2022, arXiv:2202.01545
    """

    single_clients = "bounds each client's length"
    normalized = False
    by_columns = True
    uses_weights = True

    def __init__(self, num_byzantine: int = 1, radius: float | None = None) -> None:
        if radius is not None and not (isfinite(radius) and radius > 0):
            raise InputError(f"ClippedGossip: radius must be positive and finite, not {radius}")
        self.num_byzantine, self.radius = checked_num_byzantine("ClippedGossip", num_byzantine), radius

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine rows that it is set up for."""
        if num_clients <= 2 * self.num_byzantine:
            raise InputError(
                f"ClippedGossip: num_byzantine {self.num_byzantine} needs at least {2 * self.num_byzantine + 1} rows, "
                f"not {num_clients}"
            )
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        weights, norms = torch.tensor(cohort.weights, dtype=torch.float64), gram.squared_norms().sqrt()
        longest = max(0, self.num_byzantine - cohort.num_rejected)
        if self.radius is not None:
            return weights * shortening(norms, self.radius / gram.unit)
        if not longest:
            return weights
        order = norms.sort(stable=True).indices
        near, far = order[:-longest], order[-longest:]
        delta = float(weights[far].sum())
        if delta == 0:  # nothing of these counts, and nothing has to be clipped
            return weights
        radius = float(weights[near] @ norms[near].square() / delta) ** 0.5
        return weights * shortening(norms, radius)
