"""In which direction rows vary most, how much, and how far each of them lies in it, from squared distances alone.

The covariance is a matrix of parameters x parameters that nobody forms: its eigenvalues other than zero are those of
the matrix of inner products about the mean, which has a row for each client and is taken apart exactly.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["centered_products", "top_direction"]

_SAME = 1e-9
"""Eigenvalues that differ by less than this part are one eigenvalue, whose directions are equally good."""


def centered_products(
    squared_distances: Float64[Tensor, "rows rows"], weights: Float64[Tensor, "rows"]
) -> Float64[Tensor, "rows rows"]:
    """Inner products of the rows about their weighted mean.

    Args:
        squared_distances: between every two rows.
        weights: of the rows in the mean, not negative, of any positive sum.
    """
    parts = weights / weights.sum()
    to_mean = squared_distances @ parts
    return (to_mean[:, None] + to_mean - squared_distances - to_mean @ parts) / 2


def top_direction(
    squared_distances: Float64[Tensor, "rows rows"], weights: Float64[Tensor, "rows"]
) -> tuple[float, Float64[Tensor, "rows"]]:
    """The largest eigenvalue of the weighted covariance, and every row's squared projection on its eigenvector.

    sum_i w_i (x_i - mu)(x_i - mu)^T / sum_i w_i; rows of weight zero are projected as well. Where several eigenvectors
    belong to the largest eigenvalue, the projection on all of them, so that no choice among them matters.

    Args:
        squared_distances: between every two rows.
        weights: of the rows, not negative, of any positive sum.

    Returns:
        The eigenvalue and the projections about the mean, in squared units; zeros where all rows of any weight are
        equal.
    """
    products = centered_products(squared_distances, weights)
    roots = (weights / weights.sum()).sqrt()
    values, vectors = torch.linalg.eigh(roots[:, None] * products * roots)
    largest = float(values[-1])
    if largest <= 0:
        return 0.0, torch.zeros_like(weights)
    top = vectors[:, values >= largest * (1 - _SAME)]
    return largest, (products @ (roots[:, None] * top) / largest**0.5).square().sum(1)
