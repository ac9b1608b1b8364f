"""How honest updates spread: what attacks that hide among them measure, in float64 whatever the updates' dtype.

Rows are read in chunks of columns, so that nothing as large as the updates is made.
"""

from collections.abc import Iterator
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["DIRECTIONS", "Direction", "Spread", "published_z"]

Direction = Literal["unit", "sign", "std"]
"""unit: against the mean update, of length one. sign: against its sign. std: against the standard deviations."""
DIRECTIONS: tuple[Direction, ...] = ("unit", "sign", "std")

_COLUMNS = 1 << 16


class Spread:
    """The mean of some rows, and how far they lie from it and from each other.

    Args:
        rows: honest updates as far as an attacker knows them, at least one; never written to.
    """

    def __init__(self, rows: Float[Tensor, "rows parameters"]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def mean(self) -> Float64[Tensor, "parameters"]:
        """Of the rows."""
        mean = torch.zeros(self.rows.shape[1], dtype=torch.float64, device=self.rows.device)
        for columns in self._columns():
            for row in self.rows[:, columns]:  # row by row several times as fast as a reduction over so few
                mean[columns] += row
        return mean / len(self)

    @cached_property
    def std(self) -> Float64[Tensor, "parameters"]:
        """The unbiased standard deviation of each parameter; zero where there is but one row."""
        squares = torch.zeros_like(self.mean)
        for columns in self._columns():
            for row in self.rows[:, columns]:
                deviation = row - self.mean[columns]
                squares[columns].addcmul_(deviation, deviation)
        return (squares / max(1, len(self) - 1)).sqrt_()

    @cached_property
    def _deviations(self) -> Float64[Tensor, "rows rows"]:
        """Inner products of the rows' deviations from their mean."""
        total = torch.zeros(len(self), len(self), dtype=torch.float64, device=self.rows.device)
        for columns in self._columns():
            chunk = self.rows[:, columns].double() - self.mean[columns]
            total += chunk @ chunk.T
        return total

    def squared_distances(self) -> Float64[Tensor, "rows rows"]:
        """Between every two rows."""
        norms = self._deviations.diagonal()
        return (norms[:, None] + norms - 2 * self._deviations).clamp_min(0).fill_diagonal_(0)

    def squared_deviations(self) -> Float64[Tensor, "rows"]:
        """Of each row, its squared distance from the mean."""
        return self._deviations.diagonal().clone()

    def projections(self, direction: Float64[Tensor, "parameters"]) -> Float64[Tensor, "rows"]:
        """Inner products of the rows' deviations from their mean with a direction."""
        total = torch.zeros(len(self), dtype=torch.float64, device=self.rows.device)
        for columns in self._columns():
            total += (self.rows[:, columns].double() - self.mean[columns]) @ direction[columns]
        return total

    def against(self, kind: Direction) -> Float64[Tensor, "parameters"]:
        """A direction to leave the mean in; zero where there is none, such as against a mean of zero."""
        if kind == "std":
            return -self.std
        if kind == "sign":
            return -self.mean.sign()
        norm = float(self.mean.norm())
        return -self.mean / norm if norm > 0 else -self.mean

    def _columns(self) -> Iterator[slice]:
        count = self.rows.shape[1]
        for start in range(0, count, _COLUMNS):
            yield slice(start, min(start + _COLUMNS, count))


def published_z(num_clients: int, num_byzantine: int, form: Literal["neurips", "v1"] = "neurips") -> float:
    """How many standard deviations from the mean Byzantine rows still find enough supporters among the honest ones.

    With s = floor(n / 2 + 1) - m supporters of n clients, m of them Byzantine: Phi^-1((n - m - s) / (n - m)), the form
    of the paper as published; Phi^-1((n - s) / n), that of its first version.

    Args:
        num_clients: n.
        num_byzantine: m; where they are a majority, they need no supporter, and the formula is that of one.
        form: which of the two.

    Returns:
        z; 0 where a formula gives minus infinity, as of two clients. May be negative.

    Raises:
        InputError: numbers that do not go together.

    Reference: Baruch, Baruch, Goldberg, A little is enough, NeurIPS 2019, arXiv:1902.06156
    """
    if not 0 <= num_byzantine <= num_clients or num_clients < 1:
        raise InputError(f"published_z: {num_byzantine} of {num_clients} clients cannot be Byzantine")
    supporters = max(1, num_clients // 2 + 1 - num_byzantine)
    population = num_clients - num_byzantine if form == "neurips" else num_clients
    share = (population - supporters) / population if population else 0.0
    return NormalDist().inv_cdf(share) if share > 0 else 0.0
