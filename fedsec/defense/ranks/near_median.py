"""The values of each column that lie nearest to its median: their mean, and whose they are.

The nearest values are neighbors in sorted order. So a window of them starts at the smallest values and moves up by one
place as long as the value that enters lies nearer to the median than the one that leaves; where both are equally far,
half of each counts (the mean of the lowest and the highest such window), so that neither the order of the rows nor a
common change of sign matters.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.order_statistics import Scratch, accumulator_dtype
from fedsec.defense.selection_network import sorting_network

__all__ = ["near_median_mean", "near_median_share"]


def near_median_mean(chunk: Float[Tensor, "rows columns"], count: int, scratch: Scratch) -> Float[Tensor, "columns"]:
    """Mean of the `count` values of each column that are nearest to its median.

    Args:
        chunk: finite values.
        count: how many values count, from 2 to all of them; of an odd number of rows also 1.
        scratch: this thread's buffers; the result may live there until the next call.

    Returns:
        One value a column, always finite, in the dtype of `chunk`.
    """
    ranks = _sorted(chunk, scratch)
    total, part = scratch.rows("near", 2, chunk, accumulator_dtype(chunk.dtype))
    total.zero_()
    scale = 2.0 ** -(count - 1).bit_length()  # exact, and the sum cannot overflow
    for row, counting in zip(ranks, _counting(ranks, count, scratch, part), strict=True):
        if counting is None:
            total.add_(row, alpha=scale)
        else:
            total.addcmul_(counting, row.to(total.dtype), value=scale)
    if scale * count != 1:
        total.mul_(1 / (scale * count))
    largest = torch.finfo(chunk.dtype).max  # rounding may carry a mean of the largest numbers beyond them
    return total.clamp_(-largest, largest).to(chunk.dtype)


def near_median_share(chunk: Float[Tensor, "rows columns"], count: int, scratch: Scratch) -> Float64[Tensor, "rows"]:
    """How much of what `near_median_mean` averages came from each row; equal values share equally.

    Args:
        chunk: finite values.
        count: how many values count.
        scratch: this thread's buffers.

    Returns:
        Shares that sum to one.
    """
    ranks = _sorted(chunk, scratch)
    values, counting = torch.stack(ranks), torch.ones(chunk.shape, dtype=torch.float32, device=chunk.device)
    (part,) = scratch.rows("near", 1, chunk, accumulator_dtype(chunk.dtype))
    for rank, share in enumerate(_counting(ranks, count, scratch, part)):
        if share is not None:
            counting[rank] = share
    shares = []
    for row in chunk:
        equal = values == row
        shares.append(((equal * counting).sum(0) / equal.sum(0)).sum(dtype=torch.float64))
    return torch.stack(shares) / (count * chunk.shape[1])


def _counting(ranks: list[Tensor], count: int, scratch: Scratch, part: Tensor) -> Iterator[Tensor | None]:
    """How much of each rank is in the window, from 0 to 1; None: all of it. Valid until the next is asked for."""
    moves = len(ranks) - count
    low, high = ranks[(len(ranks) - 1) // 2], ranks[len(ranks) // 2]
    median = low.to(part.dtype) * 0.5 + high.to(part.dtype) * 0.5  # the sum itself could overflow
    entering = scratch.rows("entering", moves, part)
    for place, enters in enumerate(entering):  # how much of rank `place + count` enters for rank `place`
        # Differences of numbers near each other are exact, and of two that overflow only one can be.
        below, above = median - ranks[place], ranks[place + count] - median
        enters.copy_(below > above).add_(below == above, alpha=0.5)
    for rank in range(len(ranks)):
        leaves = entering[rank] if rank < moves else None
        if rank < count:
            yield None if leaves is None else torch.sub(1, leaves, out=part)
        else:
            yield entering[rank - count] if leaves is None else torch.sub(entering[rank - count], leaves, out=part)


def _sorted(chunk: Tensor, scratch: Scratch) -> list[Tensor]:
    network = sorting_network(len(chunk))
    return network(chunk.unbind(0), scratch.rows("network", network.num_buffers, chunk))
