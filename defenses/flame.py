"""FLAME: the majority of updates that point alike, none longer than the median, and a little noise on their mean.

Reference: Nguyen, Rieger, Chen, Yalame, Moellering, Fereidooni, Marchal, Miettinen, Mirhoseini, Zeitouni, Koushanfar,
Sadeghi, Schneider, FLAME: Taming backdoors in federated learning, USENIX Security 2022, arXiv:2101.02281.
"""

from math import isfinite

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.geometry.clusters import majority_cluster
from fedsec.errors import InputError


class FLAME(GramRule):
    """Mean of the largest cluster of updates by the angles between them, each shortened to the median norm, and noise.

    HDBSCAN on the cosine distances 1 - cos(x_i, x_j) admits one cluster of more than half of the updates; what remains
    is noise to it and is left out. With S the median of the norms of *all* updates and L those admitted,

        1 / L sum_{i admitted} x_i min(1, S / ||x_i||) + N(0, (noise S)^2 I).

    Withstands any minority of Byzantine clients whose updates do not lie within the honest ones' cluster. It leaves out
    honest clients, too, mostly several in a round: HDBSCAN keeps the dense part of one cloud. Ignores the clients'
    weights.

    Args:
        noise: standard deviation of the noise on each coordinate, as a share of S (the paper's lambda: 0.001 for
            images, 0.000012 for next words); 0 for none.

    Raises:
        InputError: the noise is negative.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then the clustering of n points, and d
        random numbers.

    Limits:
        Attackers whose updates point as honest ones do are within the cluster. Honest clients with unlike data are
        outside of it.

    Reference: Nguyen et al., USENIX Security 2022, arXiv:2101.02281
    """

    single_clients = "bounds each client's length, and hides each one in noise of that size"
    normalized = False
    by_columns = True
    detects = True

    def __init__(self, noise: float = 0.001) -> None:
        if not (isfinite(noise) and noise >= 0):
            raise InputError(f"FLAME: noise must be finite and not negative, but is {noise}")
        self.noise, self.draws = noise, noise > 0
        self.by_columns = self.by_columns and noise == 0

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority."""
        return (num_clients - 1) // 2

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        """Noise of deviation one, which counts like a row; none where nobody draws it, as in an attacker's trial."""
        if not self.draws or cohort.generator is None:
            return None
        noise = torch.randn(cohort.updates.shape[1], generator=cohort.generator, dtype=torch.float32)
        return noise[None].to(cohort.updates)

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        admitted = majority_cluster(1 - gram.cosines()).double()
        norms = gram.squared_norms().sqrt()
        bound = float(norms.quantile(0.5))
        weights = admitted / admitted.sum().clamp_min(1) * torch.where(norms > bound, bound / norms, 1.0)
        noise = torch.full((cohort.num_references,), self.noise * bound * gram.unit, dtype=torch.float64)
        return torch.cat([weights, noise])
