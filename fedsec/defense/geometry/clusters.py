"""Clusterings that detecting rules share; scikit-learn does the work, and is imported when it is needed.

All give labels that depend on the points alone: nothing draws, but for `k_means` from a seed of the caller's.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

__all__ = ["k_means", "largest_cluster", "majority_cluster", "mean_shift", "number_of_clusters"]


def majority_cluster(distances: Float64[Tensor, "rows rows"]) -> Bool[Tensor, "rows"]:
    """Which rows are in HDBSCAN's one cluster of more than half of them.

    Args:
        distances: between every two rows; what is below zero, and a row's to itself, count as zero.
    """
    count = len(distances)
    if count == 1:
        return torch.ones(1, dtype=torch.bool)
    with _python_randomness_untouched():
        from sklearn.cluster import HDBSCAN
    # A neighborhood of the point itself leaves distances as they are. So does one of the nearest other point, which is
    # what the library of HDBSCAN's authors, that does not count the point, calls one sample.
    clusters = HDBSCAN(
        min_cluster_size=count // 2 + 1, min_samples=1, metric="precomputed", allow_single_cluster=True, copy=True
    )
    return torch.from_numpy(clusters.fit(distances.clamp_min(0).fill_diagonal_(0).numpy()).labels_ >= 0)


def mean_shift(points: Float64[Tensor, "rows features"], quantile: float) -> Int64[Tensor, "rows"]:
    """Labels by mean shift; -1 for points in no cluster.

    Args:
        points: not empty.
        quantile: the kernel is as wide as this share of the points lies from one of them, on average.
    """
    with _python_randomness_untouched():
        from sklearn.cluster import MeanShift, estimate_bandwidth
    features = points.numpy()
    bandwidth = estimate_bandwidth(features, quantile=quantile)
    if bandwidth == 0:  # every point has as many equal ones as it looks at
        labels = np.unique(features, axis=0, return_inverse=True)[1].reshape(-1)
    else:
        labels = MeanShift(bandwidth=bandwidth, cluster_all=False).fit(features).labels_
    return torch.from_numpy(labels).long()


def k_means(
    points: Float64[Tensor, "rows features"], num_clusters: int, seed: int, num_starts: int = 10
) -> tuple[Tensor, float]:
    """Labels by k-means, the best of some starts (k-means++), and the sum of squared distances from the centers.

    Args:
        points: as many different ones as clusters, at least.
        num_clusters: k.
        seed: of the starts.
        num_starts: how many.
    """
    if num_clusters == 1:
        return torch.zeros(len(points), dtype=torch.int64), float((points - points.mean(0)).square().sum())
    with _python_randomness_untouched():
        from sklearn.cluster import KMeans
    clusters = KMeans(num_clusters, n_init=num_starts, random_state=seed).fit(points.numpy())
    return torch.from_numpy(clusters.labels_).long(), float(clusters.inertia_)


def number_of_clusters(
    points: Float64[Tensor, "rows features"], most: int, generator: torch.Generator, num_references: int = 5
) -> int:
    """The gap statistic's: the smallest k with gap(k) >= gap(k + 1) - s(k + 1), of clusters by k-means.

    gap(k) compares the logarithm of the squares within k clusters with the mean of that over uniform points in the same
    box; s(k) is its standard deviation times sqrt(1 + 1 / references).

    Args:
        points: not empty.
        most: the largest k.
        generator: of the uniform points.
        num_references: how many sets of them.
    """
    low, high = points.amin(0), points.amax(0)
    sides = (high - low) / (high - low).amax().clamp_min(torch.finfo(torch.float64).tiny)
    scaled = (points - low) / torch.where(high > low, high - low, 1.0) * sides
    most = min(most, len(np.unique(scaled.numpy(), axis=0)))
    drawn = torch.rand(num_references, *scaled.shape, generator=generator, dtype=torch.float64) * sides
    seed = int(torch.randint(2**31, (1,), generator=generator))
    gap = -torch.inf
    for count in range(1, most + 1):
        within = k_means(scaled, count, seed, 1)[1]
        if within == 0:
            return count
        logs = torch.tensor([k_means(sample, count, seed, 1)[1] for sample in drawn], dtype=torch.float64).log()
        following = float(logs.mean()) - math.log(within)
        if count > 1 and gap >= following - float(logs.std(correction=0)) * (1 + 1 / num_references) ** 0.5:
            return count - 1
        gap = following
    return most


def largest_cluster(labels: Int64[Tensor, "rows"]) -> Bool[Tensor, "rows"]:
    """Which rows are in the cluster with most of them, the first of several; none where all labels are -1."""
    clustered = labels[labels >= 0]
    return labels == (int(clustered.bincount().argmax()) if len(clustered) else 0)


@contextmanager
def _python_randomness_untouched() -> Iterator[None]:
    """Importing scikit-learn draws from Python's global generator, which is not ours to move."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
