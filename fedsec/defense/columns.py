"""Work on a round's columns, chunk by chunk and in a few threads.

Where chunks end depends on the matrix alone, so no result depends on the number of threads.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import torch
from torch import Tensor

from fedsec.defense.order_statistics import Scratch

__all__ = ["WIDE_COLUMNS", "column_chunks", "for_each_chunk"]


def for_each_chunk(updates: Tensor, work: Callable[[slice, int, Scratch], None], *, wide: bool = False) -> None:
    """Call `work` with every chunk of columns, its number and buffers of the thread it runs in.

    Args:
        updates: [clients, parameters].
        work: called with a slice of columns, the number of the chunk, and buffers.
        wide: take wide chunks one after another, for work that passes over each row once and keeps nothing but a
            total: PyTorch's own threads then share an operation.
    """
    if wide and updates.device.type == "cpu":
        scratch = Scratch()
        for index, start in enumerate(range(0, updates.shape[1], WIDE_COLUMNS)):
            work(slice(start, min(start + WIDE_COLUMNS, updates.shape[1])), index, scratch)
        return
    chunks = column_chunks(updates)
    pending = deque(enumerate(chunks))
    # Inference mode belongs to a thread, and decides which tensors may be written to.
    inference = torch.is_inference_mode_enabled()

    def run() -> None:
        scratch = Scratch()
        with torch.inference_mode(inference):
            while True:
                try:
                    index, columns = pending.popleft()
                except IndexError:
                    return
                work(columns, index, scratch)

    threads = min(torch.get_num_threads(), _MAX_THREADS, len(chunks)) if updates.device.type == "cpu" else 1
    if threads == 1:
        run()
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run) for _ in range(threads)]:
            future.result()


_CPU_COLUMNS = 32768
"""PyTorch runs an elementwise operation on so many elements in the calling thread. Threads of our own
then cost one start a call instead of one barrier an operation, and do not stall when cores are shared."""

WIDE_COLUMNS = 1 << 18
"""A total of so many columns stays in a cache, and an operation on them outlasts the start of PyTorch's threads."""

_CPU_BYTES = 16 << 20
"""Chunks get narrower where so many clients' chunks would not fit a thread's part of the outer cache."""

_MIN_COLUMNS = 2048
"""In narrower chunks the operations' fixed costs dominate."""

_GPU_BYTES = 512 << 20
"""On a GPU chunks only bound the memory that buffers take (and stay countable in float32)."""

_MAX_THREADS = 4
"""More threads would wait for each other's turns in the interpreter."""


def column_chunks(updates: Tensor) -> list[slice]:
    """Slices of about equal width that cover the columns; they depend on nothing but shape, dtype and device."""
    num_clients, num_columns = updates.shape
    column_bytes = num_clients * updates.element_size()
    if updates.device.type == "cpu":
        widest = min(_CPU_COLUMNS, max(_MIN_COLUMNS, _CPU_BYTES // column_bytes))
    else:
        widest = min(1 << 24, max(_MIN_COLUMNS, _GPU_BYTES // column_bytes))
    pieces = ceil(num_columns / widest)
    if pieces > 2:
        pieces = ceil(pieces / _MAX_THREADS) * _MAX_THREADS
    width = ceil(num_columns / pieces / 64) * 64
    return [slice(start, min(start + width, num_columns)) for start in range(0, num_columns, width)]
