"""A round's rows whose columns lie in several pieces: what a rule asks of them, wherever the pieces are.

Columns are independent of each other, and inner products of pieces add up. So nobody needs the whole matrix: work goes
to the pieces, and what comes back is small.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.rows import finite_rows

__all__ = ["ColumnShards", "LocalShards", "column_blocks", "lost_rows"]

Result = TypeVar("Result")


class ColumnShards(ABC):
    """The same rows' columns in order, a matrix each, on one machine or on many.

    Attributes:
        num_rows: of every piece.
        widths: how many columns each piece has.
        dtype: of all numbers.
    """

    num_rows: int
    widths: tuple[int, ...]
    dtype: torch.dtype

    @abstractmethod
    def map(self, work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
        """Run `work(piece, ...)` where each piece lies.

        Args:
            work: a function, or a part of one, that other processes can be sent; must not write to the piece.
            arguments: further ones, one for each piece.

        Returns:
            What it gave, in the order of the columns.
        """

    @abstractmethod
    def changed(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> "ColumnShards":
        """Pieces of what `work(piece, ...)` makes of each, which stays where it is; these are not asked again.

        Args:
            work: as for `map`; gives a matrix of as many columns and of the same dtype.
            arguments: further ones, one for each piece.
        """

    def total(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> Tensor:
        """The sum of what `work(piece, ...)` gives, which all have one shape; as `map` otherwise."""
        return torch.stack(self.map(work, *arguments)).sum(0)

    @property
    def starts(self) -> list[int]:
        """The number of each piece's first column."""
        return [sum(self.widths[:place]) for place in range(len(self.widths))]

    def split(self, vector: Float[Tensor, "columns"]) -> list[Float[Tensor, "columns"]]:
        """A vector's pieces, as `arguments` for work on them."""
        return [part.clone() for part in torch.split(vector, list(self.widths))]

    def without(self, rows: Sequence[int]) -> "ColumnShards":
        """The other rows."""
        if not rows:
            return self
        lost = {*rows}
        others = [row for row in range(self.num_rows) if row not in lost]
        return self.changed(_rows, [others] * len(self.widths))


class LocalShards(ColumnShards):
    """Pieces that this process holds, on any devices.

    Args:
        pieces: matrices of one height and dtype.
    """

    def __init__(self, pieces: Sequence[Float[Tensor, "rows columns"]]) -> None:
        self.pieces = list(pieces)
        self.num_rows, self.dtype = len(self.pieces[0]), self.pieces[0].dtype
        self.widths = tuple(piece.shape[1] for piece in self.pieces)

    @classmethod
    def checked(cls, who: str, pieces: Any) -> "LocalShards":
        """Pieces that somebody gave.

        Args:
            who: was given them, for the message.
            pieces: matrices of one height and floating dtype, each with columns.

        Raises:
            InputError: they are not.
        """
        given = not isinstance(pieces, Tensor | np.ndarray) and bool(pieces)
        if not given or not all(isinstance(piece, Tensor) for piece in pieces):
            raise InputError(f"{who}: expected a list of matrices, the columns' pieces in order")
        rows, dtype = len(pieces[0]) if pieces[0].ndim else 0, pieces[0].dtype
        alike = all(piece.ndim == 2 and len(piece) == rows and piece.dtype == dtype for piece in pieces)
        if not alike or not all(piece.numel() for piece in pieces) or not dtype.is_floating_point:
            raise InputError(
                f"{who}: expected pieces of the same rows, matrices of one floating dtype, got "
                f"{[(str(piece.dtype), tuple(piece.shape)) for piece in pieces]}"
            )
        return cls([piece.detach() for piece in pieces])

    def map(self, work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
        return [work(*piece) for piece in zip(self.pieces, *arguments, strict=True)]

    def changed(self, work: Callable[..., Tensor], *arguments: Sequence[Any]) -> "LocalShards":
        return LocalShards(self.map(work, *arguments))


def lost_rows(shards: ColumnShards) -> tuple[int, ...]:
    """Numbers of the rows that hold NaN or infinity in any piece."""
    return tuple(sorted({row for rows in shards.map(_lost) for row in rows}))


def column_blocks(columns: int, count: int) -> list[slice]:
    """Consecutive blocks of columns of about equal width: as many as asked for, fewer where columns are.

    They depend on nothing else, and begin at multiples of 64 where there are enough columns.
    """
    step = 64 if columns >= 64 * count else 1
    width = -(-columns // (count * step)) * step
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


def _lost(piece: Tensor) -> list[int]:
    lost: list[int] = (~finite_rows(piece)).nonzero().flatten().tolist()
    return lost


def _rows(piece: Tensor, rows: list[int]) -> Tensor:
    return piece[rows]
