"""Clusterings that detecting rules share; scikit-learn does the work, and is imported when it is needed.

All give labels that depend on the points alone: nothing draws, but for `k_means` from a seed of the caller's.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

__all__ = ["k_means", "largest_cluster", "majority_cluster", "mean_shift"]


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


def k_means(points: Float64[Tensor, "rows features"], num_clusters: int, seed: int) -> tuple[Tensor, float]:
    """Labels by k-means, the best of ten starts, and the sum of squared distances from the centers.

    Args:
        points: as many different ones as clusters, at least.
        num_clusters: k.
        seed: of the starts.
    """
    with _python_randomness_untouched():
        from sklearn.cluster import KMeans
    clusters = KMeans(num_clusters, n_init=10, random_state=seed).fit(points.numpy())
    return torch.from_numpy(clusters.labels_).long(), float(clusters.inertia_)


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
