"""Lengths and bounded sums that hold at the edges of floating-point numbers, too.

The square of a number near float64's limits is not representable, and a factor that would bring a float32 number of
3e38 below 1e-6 is not a normal float32 number: what is multiplied with it may be a third longer than it should be.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["bounded_sum", "euclidean_norm", "mean_magnitude", "row_norms", "shortened"]

_SMALLEST, _LARGEST = 1e-280, 1e280
"""Sums of squares in between have lost nothing."""

_LONG = 1e300
"""The length of longer rows may be more than float64 can hold."""


def euclidean_norm(tensors: Iterable[Tensor]) -> float:
    """The L2 norm over all entries of finite tensors of any floating dtype; at most the largest float64."""
    rows = list(tensors)
    square = sum(float(row.double().square().sum()) for row in rows)
    if _SMALLEST < square < _LARGEST:
        return float(square**0.5)
    largest = max((float(row.abs().max()) for row in rows if row.numel()), default=0.0)
    if largest == 0:
        return 0.0
    norm = largest * sum(float((row.double() / largest).square().sum()) for row in rows) ** 0.5
    return float(min(norm, torch.finfo(torch.float64).max))


def row_norms(rows: Float[Tensor, "rows columns"]) -> Float64[Tensor, "rows"]:
    """The L2 norm of every row, in float64; not finite for rows that are not."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    edge = (norms < _SMALLEST**0.5) | (norms > _LARGEST**0.5) | ~norms.isfinite()
    for row in edge.nonzero().flatten().tolist():
        norms[row] = euclidean_norm([rows[row]]) if bool(rows[row].isfinite().all()) else torch.nan
    return norms


def bounded_sum(
    rows: Float[Tensor, "rows columns"], norms: Float64[Tensor, "rows"], factors: Float64[Tensor, "rows"]
) -> Float[Tensor, "columns"]:
    """sum_i f_i x_i of float32 or float64 rows, in their dtype; no row gets longer than f_i ||x_i||.

    Args:
        rows: finite.
        norms: of the rows, from `row_norms`.
        factors: not negative, such as min(1, C / ||x_i||).
    """
    smallest = torch.finfo(rows.dtype).tiny
    tiny = ((factors < smallest) & (norms > 0)) | (norms > _LONG)
    if not bool(tiny.any()):
        narrow: Tensor = factors.to(rows) @ rows
        return narrow
    # Factors that float64 itself rounds coarsely leave nothing.
    factors = torch.where(factors < torch.finfo(torch.float64).tiny, 0.0, factors)
    # Divided by their own lengths first, rows of any size get there by factors that are normal numbers.
    wide = rows.double() / torch.where(tiny, norms, 1.0)[:, None]
    # Once more, for float64 cannot hold every length of its own rows.
    wide[tiny] /= torch.linalg.vector_norm(wide[tiny], dim=1, keepdim=True)
    total: Tensor = torch.where(tiny, factors * norms, factors) @ wide
    return total.to(rows)


def shortened(update: dict[str, Tensor], bound: float) -> dict[str, Tensor]:
    """An update whose norm over all tensors is at most the bound, but for the last digit of its entries.

    Args:
        update: finite tensors by name.
        bound: positive.
    """
    norm = euclidean_norm(update.values())
    if norm <= bound:
        return update
    factor = bound / norm
    if factor < torch.finfo(torch.float64).tiny or norm > _LONG:  # too small a factor; in two steps it goes
        scaled = {name: row.double() / norm for name, row in update.items()}
        norm = euclidean_norm(scaled.values())  # not 1 where float64 could not hold the length
        scaled = {name: row / norm * bound for name, row in scaled.items()}
    else:
        scaled = {name: row.double() * factor for name, row in update.items()}
    rounded = {name: row.to(update[name]) for name, row in scaled.items()}
    worst = max(torch.finfo(row.dtype).eps for row in update.values())
    if euclidean_norm(rounded.values()) <= bound * (1 + worst):
        return rounded
    # Below the normal numbers rounding is coarse, and may have made every entry longer.
    return {name: row * (row.abs() >= torch.finfo(row.dtype).tiny) for name, row in rounded.items()}


def mean_magnitude(row: Tensor) -> Tensor:
    """The mean of the magnitudes of a finite, not empty tensor, in float64."""
    magnitudes = row.double().abs()
    mean = magnitudes.mean()
    if bool(mean.isfinite()):
        return mean
    return (magnitudes / len(magnitudes.flatten())).sum().clamp_max(magnitudes.max())
