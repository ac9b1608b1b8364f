"""Inner products of a round's rows, from which distances, norms and mixtures follow without touching the rows again.

**Cancellation.** A squared distance taken from inner products is the small difference of large numbers where updates
are nearly equal, or far from zero. So products are added up in float64, and where any pair of rows is much closer to
each other than to the origin, once more about the row that is nearest to most others: an outlier cannot be that one.
Long rows on a CPU get the first of the two passes in float32 (`swift_products`), and then need the second earlier.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from math import frexp

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.columns import column_chunks, for_each_chunk
from fedsec.defense.order_statistics import Scratch
from fedsec.defense.shards import ColumnShards, LocalShards
from fedsec.defense.swift_products import CLOSE, swift_products
from fedsec.errors import InputError

__all__ = ["Gram", "central_row", "moved_products"]

_CLOSE = 1e-6
"""Below this share of their squared lengths a squared distance has lost too many of float64's sixteen digits."""

_SLACK = 1e-9
"""Half of the weight may sum to a little less."""

_APART_BYTES = 1 << 30
"""Inner products of so many bytes may lie beside each other, one matrix for each chunk of columns."""

_SAFE = 2.0**400
"""Squares of float64 numbers beyond this, or below its inverse, and sums of them may not be representable."""


class Gram:
    """Inner products of rows, references and the origin about one center, worked out when first asked for.

    References are further points that a rule thinks with, and no pre-aggregator mixes. The origin is a point like the
    rows, the last one: norms are distances from it, and a row that is shortened lies between it and the origin. So
    every mixture of rows is an affine one, and the center drops out.

    Args:
        count: of the rows.
        products: gives the inner products of rows, references and origin, on the CPU, their squared norms, and the unit
            of lengths. Norms are apart, because a center that lies far away would drown them.
    """

    def __init__(self, count: int, products: Callable[[], tuple[Tensor, Tensor, float]]) -> None:
        self._count, self._products = count, products

    @staticmethod
    def of(
        updates: Float[Tensor, "clients parameters"],
        references: Float[Tensor, "references parameters"] | None = None,
        weights: Sequence[float] | None = None,
        *,
        products: Float64[Tensor, "clients clients"] | None = None,
    ) -> "Gram":
        """The Gram matrix of finite rows and further points, on any device.

        Args:
            updates: the rows.
            references: the further points.
            weights: of the rows, summing to one; equal by default. The center is one that half of them lie near.
            products: `swift_products(updates)`, where somebody has it already.
        """
        return Gram(len(updates), lambda: _products(LocalShards([updates]), references, weights, products))

    @staticmethod
    def of_shards(shards: ColumnShards, weights: Sequence[float] | None = None) -> "Gram":
        """The Gram matrix of finite rows whose columns lie in several pieces, wherever they are: theirs add up."""
        return Gram(shards.num_rows, lambda: _products(shards, None, weights, None))

    @staticmethod
    def unknown(count: int) -> "Gram":
        """Of rows that nobody can look at where it is asked for: whoever asks is refused."""
        return Gram(count, _too_late)

    def __len__(self) -> int:
        return self._count

    @property
    def unit(self) -> float:
        """What lengths are measured in: 1 but for numbers whose squares float64 cannot hold."""
        return self._known[2]

    def squared_distances(self, *, references: bool = False) -> Float64[Tensor, "rows rows"]:
        """Between every two rows, in squared units; exactly 0 from a row to itself, never negative.

        Args:
            references: go on with the references after the rows.
        """
        return self._distances[self._points(references), self._points(references)].clone()

    def squared_norms(self, *, references: bool = False) -> Float64[Tensor, "rows"]:
        """Of every row, and of the references if asked for, in squared units."""
        return self._known[1][self._points(references)].clone()

    def inner_products(self, *, references: bool = False) -> Float64[Tensor, "rows rows"]:
        """Of every two rows as vectors from the origin, and of the references if asked for, in squared units."""
        chosen, inner = self._points(references), self._known[0]
        return moved_products(inner, -1)[chosen, chosen]

    def about(self, point: int, *, references: bool = False) -> Float64[Tensor, "rows rows"]:
        """Of every two rows as vectors from one point, and of the references if asked for, in squared units.

        About a point among the rows nothing is lost by an outlier, which is not so of what follows from distances.

        Args:
            point: the number of a row, or of a reference after them.
            references: go on with the references after the rows.
        """
        chosen = self._points(references)
        return moved_products(self._known[0], point)[chosen, chosen]

    def cosines(self, *, references: bool = False) -> Float64[Tensor, "rows rows"]:
        """Of the angles between every two rows, in [-1, 1]; 0 with a row of zeros, and 1 of any other with itself."""
        lengths = self.squared_norms(references=references).sqrt()
        spread = torch.where(lengths > 0, lengths, torch.inf)
        cosines = (self.inner_products(references=references) / spread / spread[:, None]).clamp(-1, 1)
        cosines.diagonal().copy_((lengths > 0).double())
        return cosines

    def mixed(self, mixing: Float64[Tensor, "mixed rows"]) -> "Gram":
        """Of the rows `mixing @ updates`, which nobody has to form: W G W^T; references stay as they are."""

        def products() -> tuple[Tensor, Tensor, float]:
            inner, _, unit = self._known
            num_mixed, rows = mixing.shape
            points = torch.zeros(num_mixed + len(inner) - rows, len(inner), dtype=torch.float64)
            points[:num_mixed, :rows] = mixing
            points[num_mixed:-1, rows:-1] = torch.eye(len(inner) - rows - 1, dtype=torch.float64)
            points[:, -1] = 1 - points.sum(1)  # the rest of each row's weight, and all of the origin's own
            mixed = points @ inner @ points.T
            return mixed, _squared_distances(mixed)[-1], unit

        return Gram(len(mixing), products)

    def known(self) -> "Gram":
        """The same, worked out: it holds nothing but small matrices, and other processes can be sent it."""
        return Gram(self._count, partial(_given, *self._known))

    def _points(self, references: bool) -> slice:
        return slice(len(self._known[0]) - 1 if references else self._count)

    @cached_property
    def _known(self) -> tuple[Tensor, Tensor, float]:
        return self._products()

    @cached_property
    def _distances(self) -> Tensor:
        return _squared_distances(self._known[0])


def _products(
    shards: ColumnShards, references: Tensor | None, weights: Sequence[float] | None, products: Tensor | None
) -> tuple[Tensor, Tensor, float]:
    unit = _unit(shards, references)
    swift = _sum(shards.map(partial(_swift, references=references, products=products)))
    inner = swift
    if inner is None:
        inner = shards.total(partial(_about, references=references, center=None, unit=unit))
    distances, norms = _squared_distances(inner), inner.diagonal()
    close = distances < (_CLOSE if swift is None else CLOSE) * (norms[:, None] + norms)
    close.fill_diagonal_(False)
    if bool(close[:-1, :-1].any()):
        rows = distances[: shards.num_rows, : shards.num_rows]
        central = central_row(rows, torch.tensor(weights or [1 / len(rows)] * len(rows), dtype=torch.float64))
        inner = shards.total(partial(_about, references=references, center=central, unit=unit))
    return inner, norms, unit


def _given(inner: Tensor, norms: Tensor, unit: float) -> tuple[Tensor, Tensor, float]:
    return inner, norms, unit


def _too_late() -> tuple[Tensor, Tensor, float]:
    raise InputError("a rule asked for inner products where its columns are combined; expected `reads_products`")


def _sum(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Of the parts; None where one is missing."""
    given = [part for part in parts if part is not None]
    return torch.stack(given).sum(0) if len(given) == len(parts) else None


def _swift(updates: Tensor, references: Tensor | None, products: Tensor | None) -> Tensor | None:
    """Inner products of the rows, the references and the origin by float32; None where that does not do."""
    blocks = [swift_products(updates) if products is None else products]
    if references is not None:
        blocks += [swift_products(references), swift_products(updates, references)]
    if any(block is None for block in blocks):
        return None
    own, *further = (block for block in blocks if block is not None)
    rows, points = len(updates), len(updates) + (0 if references is None else len(references))
    inner = torch.zeros(points + 1, points + 1, dtype=torch.float64)
    inner[:rows, :rows] = own
    if further:
        inner[rows:-1, rows:-1], across = further
        inner[:rows, rows:-1], inner[rows:-1, :rows] = across, across.T
    return inner


def _about(updates: Tensor, references: Tensor | None, center: int | None, unit: float) -> Tensor:
    """Inner products of the rows, the references and the origin, less the row that is the center."""
    chunks, count = column_chunks(updates), len(updates) + (0 if references is None else len(references))
    # Each chunk's products apart, so that threads do not wait for each other; not where that is more than a few rows'.
    apart = len(chunks) if 8 * len(chunks) * (count + 1) ** 2 <= _APART_BYTES else 1
    totals = torch.zeros(apart, count + 1, count + 1, dtype=torch.float64, device=updates.device)

    def add(columns: slice, index: int, scratch: Scratch) -> None:
        rows = _in_units(updates[:, columns], unit)
        if references is not None:
            rows = torch.cat([rows, _in_units(references[:, columns], unit)])
        total = totals[min(index, apart - 1)]
        if center is None:
            total[:-1, :-1] += rows @ rows.T
            return
        middle = _in_units(updates[center, columns], unit)
        rows = torch.cat([rows - middle, -middle[None]])
        total += rows @ rows.T

    if apart == len(chunks):
        for_each_chunk(updates, add)
    else:
        for index, columns in enumerate(chunks):
            add(columns, index, Scratch())
    return totals.sum(0).cpu()


def _in_units(rows: Tensor, unit: float) -> Tensor:
    wide = rows.double()
    return wide if unit == 1 else wide / unit


def central_row(distances: Float64[Tensor, "rows rows"], weights: Float64[Tensor, "rows"]) -> int:
    """The row that is nearest to half of the others by weight; no row of clients with less than half of it otherwise.

    Args:
        distances: between every two rows.
        weights: of the rows, not negative, of sum one.
    """
    ordered, order = distances.sort(1)
    half = (weights[order].cumsum(1) < 0.5 - _SLACK).sum(1, keepdim=True)
    return int(ordered.gather(1, half).argmin())


def moved_products(inner: Tensor, point: int) -> Tensor:
    """Inner products of the same vectors less one of them, whose own are then exactly zero."""
    row = inner[point]
    moved = inner - row - row[:, None] + row[point]
    moved[:, point] = 0.0  # as its row is, without rounding
    return moved


def _squared_distances(inner: Tensor) -> Tensor:
    norms = inner.diagonal()
    distances = (norms[:, None] + norms - 2 * inner).clamp_min(0)
    return distances.fill_diagonal_(0)


def _unit(shards: ColumnShards, references: Tensor | None) -> float:
    """A power of two near the largest number, where squares of float64 would leave its range; else 1."""
    if shards.dtype != torch.float64:
        return 1.0
    largest = max([*shards.map(_largest), *(() if references is None else (_largest(references),))])
    if largest == 0 or 1 / _SAFE < largest < _SAFE:
        return 1.0
    return float(2.0 ** (frexp(largest)[1] - 1))


def _largest(points: Tensor) -> float:
    return float(points.abs().amax())
