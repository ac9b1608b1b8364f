"""What a kernel computes, and by what its package is known."""

import hashlib
import platform
from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fedsec.defense import order_statistics, selection_network

__all__ = ["MiddleMeanKernel"]


class RowsModule(torch.nn.Module):
    """Takes rows as arguments one by one."""

    @abstractmethod
    def forward(self, *rows: Tensor) -> Tensor:
        """One value a column."""


class MiddleMeanKernel(NamedTuple):
    """The mean of the middle values of every column as one loop, for rows of any length.

    Attributes:
        clients: how many rows there are.
        trim: how many values to drop at each end.
        dtype: of the rows.
    """

    clients: int
    trim: int
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """Of its package; another PyTorch, another processor or other source code have another."""
        return f"middle_mean-{self.clients}-{self.trim}-{self.dtype_name}-{_environment()}"

    @property
    def dtype_name(self) -> str:
        """Such as `float32`."""
        return str(self.dtype).removeprefix("torch.")

    def module(self) -> RowsModule:
        """The same operations as `middle_mean`."""
        network = selection_network.selection_network(self.clients, self.trim)
        dtype = self.dtype

        class MiddleMean(RowsModule):
            def forward(self, *rows: Tensor) -> Tensor:
                middle = network(rows, [None] * network.num_buffers)
                total = torch.zeros_like(rows[0], dtype=order_statistics.accumulator_dtype(dtype))
                return order_statistics.mean_of_rows(middle, total, dtype, in_place=False)

        return MiddleMean()


@lru_cache(maxsize=1)
def _environment() -> str:
    """A digest of all that a package depends on beside the kernel's numbers."""
    sources = [
        Path(str(file)).read_bytes() for file in (__file__, order_statistics.__file__, selection_network.__file__)
    ]
    machine = (torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine(), platform.system())
    return hashlib.sha256(b"\0".join([repr(machine).encode(), *sources])).hexdigest()[:16]
