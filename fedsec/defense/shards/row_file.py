"""A round's rows on disk, for matrices that do not fit the memory: written client by client, read by columns."""

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.shards.column_shards import ColumnShards
from fedsec.errors import InputError, size_of

__all__ = ["DiskShards", "RowFile"]

Result = TypeVar("Result")

WIDEST = (1 << 16) - 64
"""Columns of a block at most: too few for inner products in float32, which would be refused of the last block alone."""


class RowFile:
    """Rows in a file, block of columns after block of columns: each block is a matrix that is read at a stretch.

    The file has no name from the start, where the system knows such files: nothing is left of it, however the process
    ends.

    Args:
        num_rows: how many.
        columns: how many.
        dtype: of all numbers.
        folder: where the file lies; None for the system's folder of temporary files.
        block_bytes: of one block, about; a block has at least 64 columns and at most 65,472.

    Raises:
        InputError: the disk has no room for it.
    """

    def __init__(
        self, num_rows: int, columns: int, dtype: torch.dtype, *, folder: Path | None = None, block_bytes: int = 1 << 28
    ) -> None:
        self.num_rows, self.dtype, self.folder, self.block_bytes = num_rows, dtype, folder, block_bytes
        fitting = block_bytes // (num_rows * dtype.itemsize) // 64 * 64
        width = min(WIDEST, max(64, fitting))
        self._edges = [*range(0, columns, width), columns]
        self._size = num_rows * columns * dtype.itemsize
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (closed with the round)
            self._closing = weakref.finalize(self, self._file.close)
            self._reserve()
        except OSError as error:
            raise self._refused(error) from error

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each block."""
        return tuple(end - start for start, end in pairwise(self._edges))

    def write(self, rows: Float[Tensor, "some columns"], places: Sequence[int]) -> None:
        """Put rows into their places.

        Args:
            rows: on any device.
            places: the number of each; quickest where they follow each other.

        Raises:
            InputError: the disk is full.
        """
        rows, edges = rows.detach().cpu(), [0, *_breaks(places), len(places)]
        for number in range(len(self.widths)):
            for begin, end in pairwise(edges):
                self.write_block(number, rows[begin:end, self._edges[number] : self._edges[number + 1]], places[begin])

    def write_block(self, number: int, part: Float[Tensor, "some width"], first: int = 0) -> None:
        """Put some columns of consecutive rows into their block.

        Args:
            number: of the block.
            part: its columns of these rows.
            first: the place of the first of these rows.
        """
        data = part.contiguous().view(torch.uint8).numpy().data.cast("B")
        try:
            self._file.seek(self._place(number, first))
            while len(data):
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._refused(error) from error

    def block(self, number: int) -> Float[Tensor, "rows width"]:
        """Some columns of all rows, in memory of their own."""
        width = self._edges[number + 1] - self._edges[number]
        matrix = torch.empty(self.num_rows, width, dtype=self.dtype)
        data = matrix.view(torch.uint8).numpy().data.cast("B")
        self._file.seek(self._place(number, 0))
        while len(data):
            data = data[self._file.readinto(data) :]
        return matrix

    def close(self) -> None:
        """Give the disk back."""
        self._closing()

    def _place(self, number: int, row: int) -> int:
        start, end = self._edges[number], self._edges[number + 1]
        numbers: int = self.num_rows * start + row * (end - start)
        return numbers * int(self.dtype.itemsize)

    def _reserve(self) -> None:
        """Take the room at once: a round that ends half written has trained for nothing."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, self._size)
        else:
            self._file.truncate(self._size)

    def _refused(self, error: OSError) -> InputError:
        where = self.folder or Path(tempfile.gettempdir())
        wanted = f"the rows of a round take {size_of(self._size)} on disk in {where}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(where).free
            return InputError(f"{wanted}, and {size_of(free)} are free; expected more room, or more memory_gib")
        return InputError(f"{wanted}, which cannot be written: {error.strerror or error}")


class DiskShards(ColumnShards):
    """The blocks of a file, of which one at a time is in memory.

    Args:
        file: of the rows.
        rows: those that count, in ascending order; None for all.
    """

    def __init__(self, file: RowFile, rows: Sequence[int] | None = None) -> None:
        self.file, self._rows = file, None if rows is None else list(rows)
        self.num_rows = file.num_rows if self._rows is None else len(self._rows)
        self.widths, self.dtype = file.widths, file.dtype

    def map(self, work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
        return [
            work(self._piece(number), *further)
            for number, *further in zip(range(len(self.widths)), *arguments, strict=True)
        ]

    def changed(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> "DiskShards":
        file = self.file  # in place: there may be no room for twice as much
        if self._rows is not None:
            columns, blocks = sum(self.widths), self.file.block_bytes
            file = RowFile(self.num_rows, columns, self.dtype, folder=self.file.folder, block_bytes=blocks)
        for number, *further in zip(range(len(self.widths)), *arguments, strict=True):
            part = work(self._piece(number), *further)
            if part.shape != (self.num_rows, self.widths[number]):
                raise ValueError(f"a block of {self.num_rows} x {self.widths[number]} became {tuple(part.shape)}")
            file.write_block(number, part)
        return DiskShards(file)

    def without(self, rows: Sequence[int]) -> "DiskShards":
        lost = {*rows}
        present = range(self.num_rows) if self._rows is None else self._rows
        return DiskShards(self.file, [row for place, row in enumerate(present) if place not in lost]) if lost else self

    def total(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> Tensor:
        sums: Tensor | None = None
        for number, *further in zip(range(len(self.widths)), *arguments, strict=True):
            part = work(self._piece(number), *further)
            sums = part if sums is None else sums.add_(part)
        assert sums is not None
        return sums

    def _piece(self, number: int) -> Tensor:
        block = self.file.block(number)
        return block if self._rows is None else block[self._rows]


def _breaks(places: Sequence[int]) -> list[int]:
    """Where places do not follow each other."""
    return [index for index in range(1, len(places)) if places[index] != places[index - 1] + 1]
