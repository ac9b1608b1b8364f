"""RFLBAT: of the clusters of updates in the plane that they spread most in, the one that agrees least with itself.

Reference: Wang, Zhai, Zhan, Xia, RFLBAT: A robust federated learning algorithm against backdoor attack, 2022,
arXiv:2201.03772. The number of clusters: Tibshirani, Walther, Hastie, Estimating the number of clusters in a data set
via the gap statistic, Journal of the Royal Statistical Society B 63, 2001.
"""

from math import isfinite

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.geometry.clusters import k_means, number_of_clusters
from fedsec.errors import InputError

_MOST_CLUSTERS = 9
"""As public implementations have it; the paper's own number could not be read."""


class RFLBAT(GramRule):
    """Mean of one cluster of updates: backdoored ones are taken to agree more with each other than honest ones do.

    The updates' two principal components are all that is clustered, after those were left out whose distances from the
    others sum to more than `far` times the median of such sums. k-means groups the others, in as many clusters as the
    gap statistic finds; of each the median of its members' mean cosine similarity (of whole updates, to the cluster, to
    itself included) is taken, and the cluster with the smallest remains; clusters of one do not count, unless there are
    no others. From it those are left out whose distances from its members sum to more than `stray` times the median.

    Claims to withstand any number of attackers with backdoors. Whoever sends updates that agree less with each other
    than honest ones do is chosen: noise, for instance; and where honest clients fall into several clusters, all but one
    are left out. The plane is that of all rows, as in public code, so that rows far away lay down its axes: two of them
    in different directions determine both, and the others, among which the clusters are sought, lie close together in
    it, whatever they differ in. A row some 1e10 times as far away as the others drowns their second component in
    rounding, and they then fall into clusters by chance. Ignores the clients' weights. The thresholds and the steps are
    those of public implementations that agree with each other, but for the gap statistic's box, which is not stretched
    to a square; the paper's own values could not be read.

    Args:
        far: epsilon 1, of the first filter; at least 1.
        stray: epsilon 2, of the second; at least 1.

    Raises:
        InputError: a threshold below 1.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n^3 for the components, and the
        clustering of n points in the plane.

    Limits:
        Whoever sends updates that agree less with each other than honest ones do is chosen, such as noise. Where honest
        clients fall into several clusters, all but one are left out.

    Reference: Wang et al., 2022, arXiv:2201.03772
    """

    detects = True
    draws = True
    by_columns = True

    def __init__(self, far: float = 10.0, stray: float = 4.0) -> None:
        if not (isfinite(far) and isfinite(stray) and min(far, stray) >= 1):
            raise InputError(f"RFLBAT: far and stray must be finite and at least 1, got {far} and {stray}")
        self.far, self.stray = far, stray

    def max_rejected(self, num_clients: int) -> int:
        """All but one row: the rule names no number that it withstands."""
        return num_clients - 1

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        assert cohort.generator is not None
        points = principal_components(gram.squared_distances())
        chosen = (~_outlying(points, self.far)).nonzero().flatten()
        seed = int(torch.randint(2**31, (1,), generator=cohort.generator))
        count = number_of_clusters(points[chosen], _MOST_CLUSTERS, cohort.generator)
        labels = k_means(points[chosen], count, seed)[0]
        clusters = [chosen[labels == label] for label in range(count)]
        cosines = gram.cosines()
        best = min([part for part in clusters if len(part) > 1] or clusters, key=lambda part: _agreement(cosines, part))
        remaining = best[~_outlying(points[best], self.stray)]
        weights = torch.zeros(len(gram), dtype=torch.float64)
        weights[remaining] = 1.0
        return weights


def principal_components(distances: Float64[Tensor, "rows rows"]) -> Float64[Tensor, "rows 2"]:
    """Coordinates of points in the plane in which they spread most, about their mean.

    Args:
        distances: squared, between every two of them.
    """
    inner = -(distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean()) / 2
    values, vectors = torch.linalg.eigh(inner)
    plane = vectors[:, -2:] * values[-2:].clamp_min(0).sqrt()
    padded: Tensor = torch.nn.functional.pad(plane, (2 - plane.shape[1], 0))
    return padded


def _outlying(points: Float64[Tensor, "rows 2"], factor: float) -> Bool[Tensor, "rows"]:
    """Which points' distances from all others sum to more than so many times the median of such sums."""
    sums = torch.linalg.vector_norm(points[:, None] - points, dim=2).sum(1)
    outlying: Tensor = sums > factor * sums.quantile(0.5)
    return outlying


def _agreement(cosines: Float64[Tensor, "rows rows"], members: Tensor) -> float:
    return float(cosines[members][:, members].mean(1).quantile(0.5))
