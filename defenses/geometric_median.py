"""The geometric median: the point whose distances to the updates have the smallest sum.

Reference: Pillutla, Kakade, Harchaoui, Robust aggregation for federated learning, IEEE Transactions on Signal
Processing 70, 2022, arXiv:1912.13445 (RFA); Chen, Su, Xu, POMACS 2017, arXiv:1705.05491.

There Weiszfeld's weights are 1 / max(nu, distance), and nu keeps them finite where an update itself is the median. Here
that case is decided by its own condition, so there is no nu and the result is the exact median, in any unit: iteration
starts at the update of smallest sum, and leaves it by the step of Vardi and Zhang (PNAS 97, 2000) after which no update
can be met again (Beck, Sabach, JOTA 164, 2015). Newton's steps, in the span of the updates, go the last bit of the way.
"""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule, check_majority
from fedsec.defense.gram_matrix import central_row, moved_products
from fedsec.errors import InputError

_TIED = 1e-12
"""Objectives of two updates are equal if they differ by less than this part of the updates' distance."""

_PARTS = (1.0, 0.5, 0.25, 0.125)
"""How much of Newton's step is tried where it does not do well, as in a valley between two updates."""

_SAME = 1e-14
"""Rows are equal if their squared distance is less than this part of their squared distances from a central row."""


@final
class GeometricMedian(GramRule):
    """The point of the smallest sum of distances to the updates (RFA).

    argmin over v of sum_i w_i ||v - x_i||, with equal w_i unless `weighted`

    Withstands Byzantine clients that hold less than half of the weight: fewer than half of the clients, or `weighted`,
    clients with less than half of the weight between them, however many. With r the largest distance of an honest
    update from any point and b the Byzantine weight, the result is at most 2 r (1 - b) / (1 - 2 b) away from it. Where
    several points are medians, as between two updates, the result is the mean of the updates among them.

    Args:
        weighted: the clients' weights count. They then must be known by the server, such as from a contract of the
            sites: a client that states its own number of examples chooses its weight.
        tolerance: how far from zero the sum of weights times unit vectors from the result may be; positive.
        max_iterations: of Weiszfeld's steps, if they do not get there before; they cost clients x clients each.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n^2 for each of Weiszfeld's steps and
        n^3 for each of Newton's.

    Limits:
        Attackers within the honest updates' spread are counted like honest clients: ALIE; IPM with a small factor,
        which slows training.

    Reference: Pillutla et al., 2022, arXiv:1912.13445
    """

    by_columns = True

    def __init__(self, weighted: bool = False, tolerance: float = 1e-9, max_iterations: int = 1000) -> None:
        if not 0 < tolerance < 1:
            raise InputError(f"GeometricMedian: tolerance must be between 0 and 1, but is {tolerance}")
        if max_iterations < 1:
            raise InputError(f"GeometricMedian: max_iterations must be at least 1, but is {max_iterations}")
        self.uses_weights, self.tolerance, self.max_iterations = weighted, tolerance, max_iterations

    def max_rejected(self, num_clients: int) -> int:
        """Fewer than half of the clients; by weight, as many as have less than half of it."""
        return num_clients - 1 if self.uses_weights else (num_clients - 1) // 2

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        check_majority("GeometricMedian", cohort)
        masses = torch.tensor(cohort.weights, dtype=torch.float64)
        counting = masses.nonzero().flatten()
        distances = gram.squared_distances()[counting][:, counting]
        center = int(counting[central_row(distances, masses[counting])])
        inner = gram.about(center)[counting][:, counting]
        weights = torch.zeros_like(masses)
        weights[counting] = self._median(inner, distances, masses[counting])
        return weights

    def _median(self, inner: Tensor, distances: Tensor, masses: Tensor) -> Tensor:
        """Weights of the rows in their median.

        Args:
            inner: products of the rows as vectors from a central one.
            distances: squared, between the rows.
            masses: positive, of sum one.
        """
        best, medians = _best_rows(inner, distances.sqrt(), masses)
        norms = inner.diagonal()
        others = distances[best] > _SAME * (norms + norms[best])
        pull = torch.where(others, masses / distances[best].sqrt(), 0.0)
        mass = float(masses[~others].sum())
        # Unit vectors towards the other rows, each times its mass, add up to a vector of this length.
        force = max(0.0, float(pull @ moved_products(inner, best) @ pull)) ** 0.5
        if force - mass <= self.tolerance:
            return torch.where(medians | ~others, masses, 0.0)
        start = pull * ((1 - mass / force) / pull.sum())
        start[best] = 1 - start.sum()
        point = _Point(start, inner, masses)
        for _ in range(self.max_iterations):
            if point.slope <= self.tolerance:
                break
            point = point.further()
        return point.weiszfeld


def _best_rows(inner: Tensor, distances: Tensor, masses: Tensor) -> tuple[int, Tensor]:
    """The row with the smallest sum of distances, and which rows have just as small a one.

    Sums are compared distance by distance, or one outlier's distance would drown all others.
    """
    norms = inner.diagonal()
    sums = distances + norms.sqrt()
    objectives = torch.where(sums > 0, (norms[:, None] - 2 * inner) / sums, 0.0) @ masses
    best = int(objectives.argmin())
    return best, objectives - objectives[best] <= _TIED * distances[best]


class _Point:
    """A weighted mean of the rows, and where Weiszfeld's and Newton's steps lead from there.

    Args:
        weights: of the rows in it, of sum one, and of any sign.
        inner: products of the rows as vectors from a central one.
        masses: of the rows, positive, of sum one.

    Attributes:
        slope: length of the objective's gradient, the sum of masses times unit vectors.
        weiszfeld: weights of the rows in the point where Weiszfeld's step leads, all positive.
    """

    def __init__(self, weights: Tensor, inner: Tensor, masses: Tensor) -> None:
        nearest = int(_squared_distances(weights, inner).argmin())
        self._weights, self._given, self._masses = weights, inner, masses
        self._inner = inner = moved_products(inner, nearest)  # distances from there keep their digits, however short
        self._distances = _squared_distances(weights, inner).clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        self._pull = masses / self._distances
        self.weiszfeld = self._pull / self._pull.sum()
        step = self.weiszfeld - weights
        self.slope = float(self._pull.sum()) * max(0.0, float(step @ inner @ step)) ** 0.5

    def further(self) -> "_Point":
        """Where Newton's step leads, or a part of it, if that is further down than Weiszfeld's."""
        step = self._newton() - self._weights
        point = self._at(self._weights + step)
        if point.slope <= self.slope / 2:
            return point
        safe = self._at(self.weiszfeld)
        for part in _PARTS:
            point = self._at(self._weights + part * step)
            if point._rise(safe) > 0:
                return point
        return safe

    def _at(self, weights: Tensor) -> "_Point":
        return _Point(weights, self._given, self._masses)

    def _rise(self, other: "_Point") -> float:
        """How much larger the sum of distances is at the other point; of distances far away, what differs is seen."""
        step, both = other._weights - self._weights, other._weights + self._weights
        moments = step @ self._inner
        return float(self._masses @ ((moments @ both - 2 * moments) / (self._distances + other._distances)))

    def _newton(self) -> Tensor:
        """Weights of the rows in the point where Newton's step leads; NaN where it leads nowhere."""
        middle = self._weights @ self._inner
        products = self._inner - middle - middle[:, None] + self._weights @ middle
        cosines = products / self._distances / self._distances[:, None]
        system = self._pull.sum() * torch.eye(len(middle), dtype=torch.float64) - self._pull[:, None] * cosines
        parts = torch.linalg.solve_ex(system, self._masses)[0] / self._distances
        weights: Tensor = self._weights * (1 - parts.sum()) + parts
        return weights


def _squared_distances(weights: Tensor, inner: Tensor) -> Tensor:
    """From a weighted mean of the rows to the rows."""
    middle = weights @ inner
    squares: Tensor = weights @ middle - 2 * middle + inner.diagonal()
    return squares
