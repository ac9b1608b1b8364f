"""What rules and pre-aggregators that shorten rows have in common, on norms alone.

A row shortened to C is C / ||x|| of it, and a part of the row all the same: a mixing matrix or a coefficient says so.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["shortening", "weighted_median"]

_SLACK = 1e-9
"""Half of the weight may sum to a little less or more."""


def shortening(norms: Float64[Tensor, "rows"], bound: float) -> Float64[Tensor, "rows"]:
    """min(1, C / ||x_i||): what part of each row is not longer than the bound C.

    Args:
        norms: of the rows, not negative.
        bound: in the same unit, not negative.
    """
    # Of a row that is shortened to nothing a trace is left, which tells whose row it is.
    return torch.where(norms > bound, bound / norms, 1.0).clamp_min(torch.finfo(torch.float64).tiny)


def weighted_median(values: Float64[Tensor, "rows"], weights: Float64[Tensor, "rows"]) -> float:
    """The value below and above which less than half of the weight lies; midway where that is true of two values.

    Args:
        values: finite.
        weights: one for each value, not negative, of sum one.
    """
    ordered, order = values.sort()
    below = weights[order].cumsum(0)
    last = len(values) - 1
    low, high = (min(int((below < half).sum()), last) for half in (0.5 - _SLACK, 0.5 + _SLACK))
    return float(ordered[low] / 2 + ordered[high] / 2)
