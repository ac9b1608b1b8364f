"""Inner products of long float32 rows by float32 matrix products: as fast as one of those, and hardly less exact.

Converting to float64 and multiplying there takes more than twice as long. Instead short stretches of the rows are
multiplied in float32, which keeps partial sums small, and the stretches' products are added up in float64. Measured on
rows of normal numbers the error is about 2e-8 of the lengths' product, less than that of one float32 number. Where all
numbers are equal, rounding goes the same way in every stretch: 2e-6, the worst that was found. Only rows long enough
for errors to average out are treated so, and only where no number is so large or small that float32 could not hold its
square. A squared distance that is small beside the lengths needs more digits; who asks for one looks at `CLOSE`, above
which it is off by 1e-4 of itself at most where all numbers are equal, and else by some millionths.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["CLOSE", "swift_products"]

CLOSE = 1 / 64
"""Below this share of their squared lengths a squared distance has lost too many of the digits that are left."""

_LONG = 1 << 16
"""Columns from which errors average out, and the time counts."""

_STRETCH = 2048
"""Columns that are multiplied in float32: partial sums stay small, and the matrix product fast."""

_STRETCHES = 128
"""At once, so that what they give takes little memory."""

_MOST_BYTES = 1 << 30
"""That it may take: fewer at once where there are thousands of rows."""

_LEAST, _MOST = 1e-30, 1e30
"""Mean squares between them are sums of squares that float32 holds, but for those that do not matter beside others."""


def swift_products(
    rows: Float[Tensor, "rows columns"], others: Float[Tensor, "others columns"] | None = None
) -> Float64[Tensor, "rows others"] | None:
    """Inner products of every two rows, or of every row with every other; None where float32 does not do.

    Rows that hold NaN or infinity have a squared length that is not finite: whatever is given speaks of finite rows.
    The result does not depend on the number of threads.

    Args:
        rows: on any device, of any dtype, finite or not.
        others: likewise; the rows themselves by default. Their squared lengths are the caller's to look at.
    """
    others = rows if others is None else others
    if not _eligible(rows) or not _eligible(others):
        return None
    total = torch.zeros(len(rows), len(others), dtype=torch.float64)
    columns = rows.shape[1]
    at_once = max(1, min(_STRETCHES, _MOST_BYTES // (4 * len(rows) * len(others))))
    for start in range(0, columns - _STRETCH + 1, _STRETCH * at_once):
        count = min(at_once, (columns - start) // _STRETCH)
        part = slice(start, start + count * _STRETCH)
        left, right = (points[:, part].view(len(points), count, _STRETCH) for points in (rows, others))
        total += torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0)).sum(0, dtype=torch.float64)
    rest = slice(columns - columns % _STRETCH, columns)
    total += rows[:, rest] @ others[:, rest].T
    if others is rows:
        if not bool(_holds(total.diagonal() / columns).all()):
            return None
        total = (total + total.T) / 2
    return total if bool(total.isfinite().all()) else None


def _eligible(points: Tensor) -> bool:
    long = points.ndim == 2 and points.shape[1] >= _LONG and points.stride(1) == 1
    return long and points.dtype == torch.float32 and points.device.type == "cpu"


def _holds(mean_squares: Tensor) -> Tensor:
    # Not finite ones lie in no interval. A row of zeros has nothing to lose.
    return (mean_squares == 0) | ((mean_squares > _LEAST) & (mean_squares < _MOST))
