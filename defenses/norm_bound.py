"""Norm bounding: the mean of updates of which none counts for more than its direction and a bounded length.

Reference: Sun, Kairouz, Suresh, McMahan, Can you really backdoor federated learning?, 2019, arXiv:1911.07963.
"""

from math import isfinite
from typing import Literal, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.geometry.clipping import shortening, weighted_median
from fedsec.errors import InputError


@final
class NormBound(GramRule):
    """Mean of the updates, each shortened to at most a bound, and a little noise on it if asked for ("weak DP").

    sum_i w_i x_i min(1, C / ||x_i||) + z, with equal w_i unless `weighted`

    No client moves the result by more than its weight times C, whatever it sends, and Byzantine clients together by no
    more than their weight times C; they are not told from others. The server does it, with an eye on all updates;
    `clip` is what a client does with its own.

    Args:
        bound: C, in the updates' own units; `median`: the median of their norms, by weight if `weighted`.
        noise_std: standard deviation of the Gaussian noise z on every coordinate of the mean, in the updates' units.
            It stands in the way of backdoors; a privacy guarantee is `dp_fedavg`'s.
        weighted: the clients' weights count. They then must be known by the server, such as from a contract of the
            sites: a client that states its own number of examples chooses its weight.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, of which it needs the norms; one pass for the mean.

    Limits:
        Tells nobody apart: f of n clients move the model by f / n of the bound in every round, and where they all point
        one way, that adds up. A bound that is too long is none, and one that is too short slows training.

    Example:
        bound: median

    Reference: Sun et al., 2019, arXiv:1911.07963
    """

    single_clients = "bounds each client's length"
    normalized = False
    by_columns = True

    def __init__(self, bound: float | Literal["median"], noise_std: float = 0.0, weighted: bool = False) -> None:
        if bound != "median" and not (isinstance(bound, int | float) and isfinite(bound) and bound > 0):
            raise InputError(f"NormBound: bound must be median or a positive finite number, not {bound}")
        if not (isfinite(noise_std) and noise_std >= 0):
            raise InputError(f"NormBound: noise_std must be finite and not negative, but is {noise_std}")
        self.bound, self.noise_std = bound, noise_std
        self.uses_weights, self.draws = weighted, noise_std > 0
        self.by_columns = self.by_columns and noise_std == 0

    def max_rejected(self, num_clients: int) -> int:
        """Fewer than half of the clients, whom the median of norms withstands; of a fixed bound, all but one."""
        return (num_clients - 1) // 2 if self.bound == "median" else num_clients - 1

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        if not self.draws:
            return None
        like = cohort.updates
        noise = torch.randn(1, like.shape[1], generator=cohort.generator)
        return noise.to(like) * self.noise_std

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        norms = gram.squared_norms().sqrt()
        weights = torch.tensor(cohort.weights, dtype=torch.float64)
        bound = weighted_median(norms, weights) if isinstance(self.bound, str) else self.bound / gram.unit
        coefficients = weights * shortening(norms, bound)
        return torch.cat([coefficients, torch.ones(cohort.num_references, dtype=torch.float64)])
