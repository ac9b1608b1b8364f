"""Selection networks: the middle ranks of many short columns by elementwise minima and maxima.

A comparator writes the smaller of two rows to one place and the larger to another, elementwise, so a
network of comparators sorts every column of a matrix in the same few row operations. Only part of a
sorting network is needed here: comparators whose results nobody reads are dropped, and so are those
that only order rows which are averaged anyway. The median of 20 rows takes 142 minima and maxima,
sorting takes 194.

The sorting network is Batcher's odd-even merge sort. Where little is trimmed, rows are sorted in
blocks and only the ends of the blocks are merged, since the middle of a block is kept whatever the
other blocks hold; of several numbers of blocks the cheapest is taken.

Reference: Batcher, Sorting networks and their applications, AFIPS 1968, doi:10.1145/1468075.1468121.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Comparator = tuple[int, int]
"""Two wires; the smaller value goes to the first, the larger to the second."""


@dataclass(frozen=True)
class Network:
    """A selection network as a straight-line program over registers.

    Attributes:
        steps: (`torch.minimum` or `torch.maximum`, register, register, target register), in order. The
            first registers are the input rows, which are never written to; the others are buffers.
        outputs: the registers that hold the results.
        num_buffers: how many buffers the program needs.
    """

    steps: tuple[tuple[Callable[..., Tensor], int, int, int], ...]
    outputs: tuple[int, ...]
    num_buffers: int

    def __call__(self, rows: Sequence[Tensor], buffers: Sequence[Tensor | None]) -> list[Tensor]:
        """The output rows; where a buffer is None, its row is allocated anew at every step."""
        inputs = len(rows)
        registers: list[Any] = [*rows, *buffers]
        for function, first, second, target in self.steps:
            registers[target] = function(registers[first], registers[second], out=buffers[target - inputs])
        return [registers[output] for output in self.outputs]


@lru_cache(maxsize=256)
def selection_network(num_rows: int, trim: int, edges_only: bool = False) -> Network:
    """The cheapest network found for the middle ranks of `num_rows` rows.

    Args:
        num_rows: how many rows there are.
        trim: how many ranks to leave out at each end, `0 <= 2 * trim < num_rows`.
        edges_only: give only the lowest and the highest kept rank (one row where they coincide), in
            this order, instead of all kept ranks in no particular order.

    Returns:
        The program, pruned to what its outputs need.
    """
    ends = trim + 1 if edges_only else trim
    most_blocks = max(1, num_rows // (2 * ends)) if ends else 1
    candidates = []
    for blocks in sorted({1, *(most_blocks >> halvings for halvings in range(most_blocks.bit_length()))}):
        comparators, order = _block_network(num_rows, ends, blocks)
        middle = order[trim : num_rows - trim]
        outputs = list(dict.fromkeys((middle[0], middle[-1]))) if edges_only else middle
        candidates.append(_program(_prune(comparators, outputs, ordered=edges_only), outputs, num_rows))
    return min(candidates, key=lambda network: len(network.steps))


@lru_cache(maxsize=256)
def sorting_network(num_rows: int, ranks: tuple[int, ...] | None = None) -> Network:
    """The ranks of `num_rows` rows in order, the lowest first.

    Args:
        num_rows: how many rows there are.
        ranks: those to give, from 0; all of them by default.
    """
    comparators: list[Comparator] = []
    order = _sort(comparators, list(range(num_rows)))
    outputs = order if ranks is None else [order[rank] for rank in ranks]
    return _program(_prune(comparators, outputs, ordered=True), outputs, num_rows)


def _block_network(num_rows: int, ends: int, blocks: int) -> tuple[list[Comparator], list[int]]:
    """A network that puts at least the `ends` lowest and highest ranks into place, and the order of its wires."""
    comparators: list[Comparator] = []
    if blocks == 1:
        order = _sort(comparators, list(range(num_rows)))
        return comparators, order
    low: list[int] = []
    middle: list[int] = []
    high: list[int] = []
    for block in range(blocks):
        wires = _sort(comparators, list(range(num_rows * block // blocks, num_rows * (block + 1) // blocks)))
        low = _merge(comparators, low, wires[:ends])
        high = _merge(comparators, wires[-ends:], high)
        middle += low[ends:] + wires[ends:-ends] + high[:-ends]
        low, high = low[:ends], high[-ends:]
    return comparators, low + middle + high


def _sort(comparators: list[Comparator], wires: list[int]) -> list[int]:
    """Append a sorting network for `wires`; return them in sorted order."""
    if len(wires) < 2:
        return wires
    half = (len(wires) + 1) // 2
    return _merge(comparators, _sort(comparators, wires[:half]), _sort(comparators, wires[half:]))


def _merge(comparators: list[Comparator], first: list[int], second: list[int]) -> list[int]:
    """Append Batcher's odd-even merge of two sorted lists of wires; return all of them in sorted order."""
    if not first or not second:
        return first + second
    if len(first) == len(second) == 1:
        comparators.append((first[0], second[0]))
        return first + second
    even = _merge(comparators, first[0::2], second[0::2])
    odd = _merge(comparators, first[1::2], second[1::2])
    order, even = even[:1], even[1:]
    for pair in zip(odd, even, strict=False):
        comparators.append(pair)
        order.extend(pair)
    paired = min(len(odd), len(even))
    return order + odd[paired:] + even[paired:]


def _prune(comparators: list[Comparator], outputs: Sequence[int], ordered: bool) -> list[tuple[int, int, bool, bool]]:
    """Drop what does not reach the outputs: (wire, wire, smaller needed?, larger needed?)."""
    read_as = dict.fromkeys(outputs, "exactly" if ordered else "in any order")
    needed = []
    for first, second in reversed(comparators):
        smaller, larger = read_as.get(first), read_as.get(second)
        if (smaller is None and larger is None) or smaller == larger == "in any order":
            continue
        needed.append((first, second, smaller is not None, larger is not None))
        read_as[first] = read_as[second] = "exactly"
    return needed[::-1]


def _program(comparators: list[tuple[int, int, bool, bool]], outputs: Sequence[int], num_rows: int) -> Network:
    """Give every intermediate row a register; the one freed last, which the cache still holds, goes first."""
    register = list(range(num_rows))
    free: list[int] = []
    used = num_rows
    steps = []
    for first, second, smaller_needed, larger_needed in comparators:
        sources = register[first], register[second]
        overwritable = [source for source in sources if source >= num_rows]
        for wire, function, needed, last in (
            (first, torch.minimum, smaller_needed, not larger_needed),
            (second, torch.maximum, larger_needed, True),
        ):
            if not needed:
                continue
            if last and overwritable:
                target = overwritable.pop()
            elif free:
                target = free.pop()
            else:
                target, used = used, used + 1
            steps.append((function, *sources, target))
            register[wire] = target
        free.extend(overwritable)
    return Network(tuple(steps), tuple(register[wire] for wire in outputs), used - num_rows)
