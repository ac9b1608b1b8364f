"""LASA: sparse updates, of which each layer takes those of usual length and usual signs.

Reference: Xu, Zhang, Hu, Achieving Byzantine-resilient federated learning via layer-adaptive sparsified model
aggregation, WACV 2025, arXiv:2409.01435. Details are those of the authors' code.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, Scratch, weighted_sum
from fedsec.defense.cohort import relative_parts
from fedsec.defense.norms import row_norms
from fedsec.errors import InputError

_COLUMNS = 1 << 16
"""Of a layer looked at in one go."""

_BELOW = 1 - 1e-9
"""What is less than this part of a radius is so beyond rounding: of two clients both deviate by just one deviation."""

_ROUNDING = 1e-12
"""Values deviate by rounding alone where their standard deviation is no larger a share of their median."""


@dataclass(frozen=True)
class _Layer:
    """One parameter.

    Args:
        columns: its place in a row.
        sparse: whether its smallest values become zero.
    """

    columns: slice
    sparse: bool


@dataclass(frozen=True, eq=False)
class _FilteredCohort(Cohort):
    """A cohort, and what each layer takes of it.

    Attributes:
        thresholds: of each row; values that are not larger in magnitude become zero in layers that are made sparse.
        coefficients: of each layer, how much of each row it takes.
    """

    thresholds: Tensor | None = None
    coefficients: tuple[tuple[_Layer, tuple[float, ...]], ...] = ()


class LASA(Aggregator):
    """Layer by layer the mean of the sparse and shortened updates that pass two filters there.

    Each update is shortened to the median of all norms, and the `sparsity` share of its weights that is smallest in
    magnitude becomes zero (weights are parameters of more than one axis; others stay). In each layer those pass whose
    norm, and whose share of positive signs among those that are not zero, deviate from the median of all by less than
    `norm_radius` and `sign_radius` standard deviations. Where nobody passes both, all count.

    Claims to withstand a minority of Byzantine clients. A client is suspected if it counts in no layer. With radii of 1
    some half of the honest clients is left out of each layer. Ignores the clients' weights. The paper's text could not
    be read; where its abstract leaves it open, the authors' code decided: what is averaged are the sparse updates.

    Args:
        sparsity: share of the weights that become zero, in [0, 1).
        norm_radius: lambda_n of the authors' code, in standard deviations.
        sign_radius: lambda_s.

    Raises:
        InputError: a number out of range.

    Cost:
        Four passes over the updates, one of them a partial sort of each.

    Limits:
        Attackers of usual length and usual signs in each layer pass. With radii of 1, some half of the honest clients
        is left out of each layer.

    Reference: Xu et al., WACV 2025, arXiv:2409.01435
    """

    needs_shapes = True
    detects = True

    def __init__(self, sparsity: float = 0.3, norm_radius: float = 1.0, sign_radius: float = 1.0) -> None:
        if not 0 <= sparsity < 1:
            raise InputError(f"LASA: sparsity must lie in [0, 1), but is {sparsity}")
        for what, radius in (("norm_radius", norm_radius), ("sign_radius", sign_radius)):
            if not (isfinite(radius) and radius > 0):
                raise InputError(f"LASA: {what} must be positive and finite, but is {radius}")
        self.sparsity, self.norm_radius, self.sign_radius = sparsity, norm_radius, sign_radius

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority."""
        return (num_clients - 1) // 2

    def staged(self, cohort: Cohort) -> Cohort:
        assert cohort.shapes is not None
        updates, layers = cohort.updates, _layers(cohort.shapes)
        norms = row_norms(updates).cpu()
        bound = norms.quantile(0.5)
        shortening = torch.where(norms > bound, bound / norms, 1.0)
        thresholds = self._thresholds(updates, [layer.columns for layer in layers if layer.sparse])
        coefficients = []
        for layer in layers:
            pieces = (rows for _, rows in _pieces(updates, layer, thresholds))
            passing = self._passing(pieces, shortening, unit=float(norms.amax()) or 1.0).double()
            coefficients.append((layer, tuple((passing / passing.sum() * shortening).tolist())))
        known = {field.name: getattr(cohort, field.name) for field in fields(Cohort)}
        return _FilteredCohort(**known, thresholds=thresholds, coefficients=tuple(coefficients))

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        assert isinstance(cohort, _FilteredCohort)
        assert cohort.thresholds is not None
        updates, scratch = cohort.updates, Scratch()
        vector = torch.empty_like(updates[0])
        for layer, coefficients in cohort.coefficients:
            for columns, rows in _pieces(updates, layer, cohort.thresholds):
                vector[columns] = weighted_sum(rows, coefficients, scratch)
        return vector

    def shares(self, cohort: Cohort) -> Float64[Tensor, "clients"]:
        """Of each layer what it took, by the layers' sizes."""
        assert isinstance(cohort, _FilteredCohort)
        total = torch.zeros(len(cohort.updates), dtype=torch.float64)
        for layer, coefficients in cohort.coefficients:
            size = layer.columns.stop - layer.columns.start
            total += size * torch.tensor(coefficients, dtype=torch.float64)
        return torch.tensor(relative_parts(total.tolist()), dtype=torch.float64, device=cohort.updates.device)

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        """The rows that count in no layer."""
        return (self.shares(cohort) == 0).nonzero().flatten().tolist()

    def _thresholds(self, updates: Float[Tensor, "clients parameters"], weights: Sequence[slice]) -> Tensor:
        """The largest magnitude of each row's weights that becomes zero: [clients], -1 where none does."""
        count = int(self.sparsity * sum(columns.stop - columns.start for columns in weights))
        if count == 0:
            return updates.new_full((len(updates),), -1.0)
        wide = torch.promote_types(updates.dtype, torch.float32)
        magnitudes = (torch.cat([row[columns] for columns in weights]).abs().to(wide) for row in updates)
        return torch.stack([values.kthvalue(count).values for values in magnitudes]).to(updates)

    def _passing(
        self, pieces: Iterator[Tensor], shortening: Float64[Tensor, "clients"], unit: float
    ) -> Bool[Tensor, "clients"]:
        """Which rows pass both filters of a layer."""
        squares, positive, negative = torch.zeros(3, len(shortening), dtype=torch.float64)
        for rows in pieces:
            squares += (rows.double() / unit).square().sum(1).cpu()
            positive += (rows > 0).sum(1).cpu()
            negative += (rows < 0).sum(1).cpu()
        signs = positive + negative
        purity = torch.where(signs > 0, positive / signs.clamp_min(1), 0.5)
        usual = _deviations(squares.sqrt() * shortening) < self.norm_radius * _BELOW
        usual &= _deviations(purity) < self.sign_radius * _BELOW
        return usual if bool(usual.any()) else torch.ones_like(usual)


def _layers(shapes: Mapping[str, torch.Size]) -> list[_Layer]:
    """The parameters that are not empty; those of more than one axis are weights."""
    layers, start = [], 0
    for shape in shapes.values():
        if shape.numel():
            layers.append(_Layer(slice(start, start + shape.numel()), len(shape) > 1))
        start += shape.numel()
    return layers


def _pieces(
    updates: Float[Tensor, "clients parameters"], layer: _Layer, thresholds: Float[Tensor, "clients"]
) -> Iterator[tuple[slice, Float[Tensor, "clients columns"]]]:
    """A layer of the sparse updates, some columns at a time."""
    for start in range(layer.columns.start, layer.columns.stop, _COLUMNS):
        columns = slice(start, min(start + _COLUMNS, layer.columns.stop))
        rows = updates[:, columns]
        yield columns, torch.where(rows.abs() > thresholds[:, None], rows, 0) if layer.sparse else rows


def _deviations(values: Float64[Tensor, "clients"]) -> Float64[Tensor, "clients"]:
    """From the median of all, in standard deviations; zero where all are equal."""
    median, spread = values.quantile(0.5), values.std(correction=0)
    if float(spread) <= _ROUNDING * float(median.abs()):
        return torch.zeros_like(values)
    return (values - median).abs() / spread
