"""Trimmed means of the columns of a chunk, and whose values they are made of."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from fedsec.defense.selection_network import selection_network

_MANY_ROWS = 1000
"""From so many rows on columns are sorted one by one: a network for 10,000 rows takes four times as long."""

_MANY_TIES = 0.25
"""Above this share of the columns with ties all are looked at: picking columns takes longer."""


class Scratch:
    """Buffers of one thread, allocated once and used again for every chunk of columns."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def rows(self, name: str, count: int, like: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """`count` uninitialized rows, as long as the last dimension of `like` and on its device."""
        return self.matrix(name, count, like, dtype).unbind(0)

    def matrix(
        self, name: str, count: int, like: Tensor, dtype: torch.dtype | None = None
    ) -> Shaped[Tensor, "rows columns"]:
        """These rows in one tensor."""
        dtype = dtype or like.dtype
        columns = like.shape[-1]
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.shape[0] < count or buffer.shape[1] < columns or buffer.device != like.device:
            buffer = torch.empty(count, columns, dtype=dtype, device=like.device)
            self._buffers[name, dtype] = buffer
        return buffer[:count, :columns]


def middle_mean(chunk: Float[Tensor, "clients columns"], trim: int, scratch: Scratch) -> Float[Tensor, "columns"]:
    """Mean of each column without its `trim` smallest and `trim` largest values.

    Args:
        chunk: finite values; every column is trimmed for itself.
        trim: how many values to drop at each end, `0 <= 2 * trim < clients`.
        scratch: this thread's buffers; the result may live there until the next call.

    Returns:
        One value a column, always finite, in the dtype of `chunk`.
    """
    middle = _sorted_middle(chunk, trim)
    if middle is None:
        network = selection_network(chunk.shape[0], trim)
        middle = network(chunk.unbind(0), scratch.rows("network", network.num_buffers, chunk))
    (total,) = scratch.rows("total", 1, chunk, accumulator_dtype(chunk.dtype))
    return mean_of_rows(middle, total.zero_(), chunk.dtype, in_place=True)


def weighted_sum(
    chunk: Float[Tensor, "clients columns"] | Sequence[Float[Tensor, "columns"]],
    weights: Sequence[float],
    scratch: Scratch,
) -> Float[Tensor, "columns"]:
    """Sum of the rows, each times its weight.

    The weight is applied before the addition, so that huge finite rows do not overflow on the way, where weights are
    not negative and sum to at most one.

    Args:
        chunk: finite values, at least one row.
        weights: one for each client.
        scratch: this thread's buffers; the result may live there until the next call.

    Returns:
        One value a column, always finite, in the dtype of `chunk`.
    """
    rows = chunk.unbind(0) if isinstance(chunk, Tensor) else chunk
    like = rows[0]
    (total,) = scratch.rows("total", 1, like[None], accumulator_dtype(like.dtype))
    total.zero_()
    for row, weight in zip(rows, weights, strict=True):
        total.add_(row, alpha=weight)
    return _finite(total, like.dtype)


def middle_share(chunk: Float[Tensor, "clients columns"], trim: int, scratch: Scratch) -> Float64[Tensor, "clients"]:
    """How much of what `middle_mean` averages came from each client.

    A column keeps `clients - 2 * trim` values, which count equally; clients that tie for a kept value
    share it equally.

    Args:
        chunk: finite values.
        trim: how many values are dropped at each end, `0 <= 2 * trim < clients`.
        scratch: this thread's buffers.

    Returns:
        Shares that sum to one.
    """
    clients, columns = chunk.shape
    counting = clients - 2 * trim
    if trim == 0:
        return torch.full((clients,), 1 / clients, dtype=torch.float64, device=chunk.device)
    rows, edges = chunk.unbind(0), _sorted_middle(chunk, trim)
    if edges is None:
        network = selection_network(clients, trim, edges_only=True)
        edges = network(rows, scratch.rows("network", network.num_buffers, chunk))
    lowest, highest = edges[0], edges[-1]
    above, below, per_column = scratch.rows("share", 3, chunk, torch.float32)
    per_column.zero_()
    counts = []
    for row in rows:
        inside = torch.ge(row, lowest, out=above).mul_(torch.le(row, highest, out=below))
        per_column.add_(inside)
        counts.append(inside.sum())
    shares = torch.stack(counts).double()
    # Without ties that reach into the trimmed ranks, every column has exactly the kept values inside.
    tied = per_column != counting
    num_tied = int(tied.sum())
    if num_tied > _MANY_TIES * columns:
        shares = _shares_among_ties(rows, trim, lowest, highest, scratch)
    elif num_tied:
        places = tied.nonzero().flatten()
        chunk, lowest, highest = chunk[:, places], lowest[places], highest[places]
        shares -= ((chunk >= lowest) & (chunk <= highest)).sum(1)
        shares += _shares_among_ties(chunk.unbind(0), trim, lowest, highest, scratch)
    return shares / (counting * columns)


def _shares_among_ties(rows: Sequence[Tensor], trim: int, lowest: Tensor, highest: Tensor, scratch: Scratch) -> Tensor:
    """How many kept values are each row's, where rows that tie for one share it."""
    first, second, low, at_low, high, at_high = scratch.rows("ties", 6, lowest[None], torch.float32)
    for count in (low, at_low, high, at_high):
        count.zero_()
    for row in rows:
        low.add_(torch.le(row, lowest, out=first))
        at_low.add_(torch.eq(row, lowest, out=first))
        high.add_(torch.ge(row, highest, out=first))
        at_high.add_(torch.eq(row, highest, out=first))
    # Of the values equal to an edge, those among the trimmed ranks are not kept.
    one_value = lowest == highest
    part_of_low = low.sub_(trim).masked_fill_(one_value, len(rows) - 2 * trim).double().div_(at_low)
    part_of_high = high.sub_(trim).masked_fill_(one_value, 0).double().div_(at_high)
    shares = []
    for row in rows:
        between = torch.gt(row, lowest, out=first).mul_(torch.lt(row, highest, out=second)).sum().double()
        low_values = torch.eq(row, lowest, out=first).double() @ part_of_low
        shares.append(between + low_values + torch.eq(row, highest, out=first).double() @ part_of_high)
    return torch.stack(shares)


def _sorted_middle(chunk: Float[Tensor, "clients columns"], trim: int) -> list[Tensor] | None:
    """What is left of each column in order; None of few rows, for which a network is quicker, or on a GPU."""
    if len(chunk) < _MANY_ROWS or chunk.device.type != "cpu" or chunk.dtype.itemsize < 4:
        return None
    columns = np.sort(chunk.detach().T.contiguous().numpy(), axis=1)
    middle = np.ascontiguousarray(columns[:, trim : len(chunk) - trim].T)
    return list(torch.from_numpy(middle).unbind(0))


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which to add values of `dtype`: 16 bits are too few for a sum."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def mean_of_rows(rows: Sequence[Tensor], total: Tensor, dtype: torch.dtype, in_place: bool) -> Tensor:
    """The mean of some rows in `dtype`, added up in the order given onto zeros, in place or not."""
    # A power of two scales exactly: the sum cannot overflow, and nothing is lost.
    scale = 2.0 ** -(len(rows) - 1).bit_length()
    for row in rows:
        total = torch.add(total, row, alpha=scale, out=total if in_place else None)
    if scale * len(rows) != 1:
        total = torch.mul(total, 1 / (scale * len(rows)), out=total if in_place else None)
    return _finite(total, dtype)


def _finite(total: Tensor, dtype: torch.dtype) -> Tensor:
    # Only rounding can carry a mean of finite values beyond the largest finite one.
    largest = torch.finfo(dtype).max
    return torch.clamp(total, -largest, largest).to(dtype)
