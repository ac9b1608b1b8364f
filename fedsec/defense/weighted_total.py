"""A weighted sum of a round's rows in one pass over them, as the mean and all rules in Gram space end."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.columns import WIDE_COLUMNS, for_each_chunk
from fedsec.defense.order_statistics import Scratch, accumulator_dtype, weighted_sum

__all__ = ["RunningTotal", "weighted_total"]

_LONG = 1 << 19
"""Columns from which a matrix-vector product takes over. It adds in another order, so that shorter rows, whose sums
hardly cost anything, keep the last digits that published numbers were made with."""

_COLUMNS = 1 << 18
"""Of one product; where they end depends on nothing but the rows' length."""


def weighted_total(
    points: Sequence[tuple[Float[Tensor, "_ columns"], Sequence[float]]], *, every: bool = False
) -> Float[Tensor, "columns"]:
    """Sum of the rows of one or several matrices, each times its weight.

    The result does not depend on the number of threads. Where the rows' dtype cannot hold a weight, such as that of a
    row that is shortened from 1e38 to 1e-6, all is added up in float64.

    Args:
        points: matrices of equal width, dtype and device, at least one, and a weight for each of their rows.
        every: look at rows without weight, too, so that NaN or infinity in any row leaves NaN, infinity or the largest
            number of the dtype in the result.

    Returns:
        Finite values, where rows are finite and weights are not negative and sum to at most one.
    """
    like = points[0][0]
    counting = [(matrix[row], weight) for matrix, some in points for row, weight in enumerate(some) if weight or every]
    if not counting:
        return torch.zeros_like(like[0])
    wide = not all(_holds(weight, accumulator_dtype(like.dtype)) for _, weight in counting)
    if len(points) == 1 and not wide and _pays(like, len(counting)):
        vector = _product(like, points[0][1], every)
        if vector is not None:
            return vector
    vector = torch.empty_like(like[0])

    def reduce(columns: slice, index: int, scratch: Scratch) -> None:
        rows = [row[columns].double() if wide else row[columns] for row, _ in counting]
        total = weighted_sum(rows, [weight for _, weight in counting], scratch)
        vector[columns] = total.clamp(-largest, largest) if wide else total

    largest = torch.finfo(like.dtype).max
    for_each_chunk(like, reduce, wide=every)
    return vector


class RunningTotal:
    """The weighted total of rows that pass by, of the same bits as `weighted_total` of all of them in this order.

    But for long rows, which that may leave to a matrix-vector product.

    Args:
        like: with the length, dtype and device of a row.
        weights: of all rows that may come.
    """

    def __init__(self, like: Float[Tensor, "columns"], weights: Sequence[float]) -> None:
        narrow = accumulator_dtype(like.dtype)
        self._dtype = like.dtype
        wide = not all(_holds(weight, narrow) for weight in weights)
        self._total = torch.zeros(len(like), dtype=torch.float64 if wide else narrow, device=like.device)

    def add(self, rows: Float[Tensor, "rows columns"], weights: Sequence[float]) -> None:
        """Take in further rows.

        Args:
            rows: finite.
            weights: one for each of them.
        """
        for start in range(0, len(self._total), WIDE_COLUMNS):  # where `for_each_chunk` ends a chunk
            total = self._total[start : start + WIDE_COLUMNS]
            for row, weight in zip(rows[:, start : start + WIDE_COLUMNS], weights, strict=True):
                total.add_(row.to(total.dtype), alpha=weight)

    def value(self, factor: float = 1.0) -> Float[Tensor, "columns"]:
        """The total so far, times a factor."""
        largest = torch.finfo(self._dtype).max
        total = self._total if factor == 1 else self._total.double() * factor
        return total.clamp(-largest, largest).to(self._dtype)


def _holds(weight: float, dtype: torch.dtype) -> bool:
    """Whether a weight is zero or a normal number of a dtype."""
    return weight == 0 or torch.finfo(dtype).tiny <= abs(weight) <= torch.finfo(dtype).max


def _pays(rows: Tensor, counting: int) -> bool:
    """Whether a product with all rows is faster than adding those that count."""
    long = rows.shape[1] >= _LONG and rows.stride(1) == 1 and rows.device.type == "cpu"
    return long and rows.dtype in (torch.float32, torch.float64) and 2 * counting > len(rows)


def _product(rows: Tensor, weights: Sequence[float], every: bool) -> Tensor | None:
    """The sum as matrix-vector products; None where it is not surely right."""
    factors = torch.tensor(weights, dtype=torch.float64).to(rows)
    if every and not bool(factors.all()):  # a product may leave out what it multiplies by zero
        return None
    vector = torch.empty_like(rows[0])
    for start in range(0, rows.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        torch.mv(rows[:, columns].T, factors, out=vector[columns])
    return vector if bool(vector.sum().isfinite()) else None
