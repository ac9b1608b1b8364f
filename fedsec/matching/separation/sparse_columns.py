"""Directions in which a matrix of small rank has many zeros: what ReLU leaves of a product of two unknown matrices.

A batch's gradient of a linear layer before a ReLU is D X^T, where column i of D is zero at the neurons that image i
does not activate. Any factors L R of that product have D = L Q with an unknown Q [b, b]. Where b - 1 independent rows
of L belong to neurons that are silent for image i, their kernel is column i of Q, which is how SPEAR finds it: draw
b - 1 rows, take their kernel, and keep it if more entries of L q vanish than were made to. About 2^(b-1) / b draws give
one, where half of the neurons are silent for each image, independently of the others.

**Where we deviate.** What was found makes the rest cheap, where the paper goes on drawing among all rows. Rows that are
silent for k known images lie in b - k dimensions, where b - k - 1 of them give the kernel of a new column up to a
combination of the known ones. Each of those coefficients then is what most neurons agree on that no other known image
activates. So the first column costs 2^(b-1) / b draws, the second half of that, and the last ones next to nothing;
drawing among all rows takes about 2^(b-1) (1 + 1/2 + ... + 1/b) draws for all of them.

Reference: Dimitrov, Baader, Mueller, Vechev, SPEAR: exact gradient inversion of batches in federated learning, NeurIPS
2024, arXiv:2403.03945, theorems 3.2 and 3.3 and algorithm 1
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.matching.limits import Deadline

__all__ = ["SparseColumns", "search_sparse_columns"]

_DRAWS = 512
"""Draws of rows that are looked at together."""

_AMPLIFIED = 1000
"""How many times a row's own error its entry may have in a direction that was computed from few rows."""

_ROUNDED = 20
"""The same in a direction that was computed from all rows that vanish in it."""

_SURPLUS = 3
"""So many rows must vanish beyond those that were made to: at random hardly any does."""

_WITNESSES = 8
"""So many rows must tell a column from each mixture with others: those hold the few rows that were made to vanish."""

_SAME = 1e-7
"""Directions whose cosine is that near to one are one, but for errors of rounding."""

_INDEPENDENT = 1e-6
"""Directions whose smallest singular value is below this depend on each other."""


@dataclass(frozen=True, eq=False)
class SparseColumns:
    """What is known after some draws.

    Attributes:
        directions: unit vectors q, independent of each other, those with most zeros first.
        zeros: where the rows of the matrix vanish in each of them.
        draws: of rows, until now.
        complete: whether there are as many as the matrix has columns.
    """

    directions: Float[Tensor, "some rank"]
    zeros: Bool[Tensor, "some rows"]
    draws: int
    complete: bool


def search_sparse_columns(
    factor: Float[Tensor, "rows rank"],
    *,
    precision: float,
    generator: torch.Generator,
    deadline: Deadline,
    draws: int,
) -> Iterator[SparseColumns]:
    """Directions in which many rows vanish, more and sparser ones after each turn.

    Ends after so many draws, or when the time is up; whoever asks may stop as soon as what is found will do.

    Args:
        factor: in double precision on the CPU, no row zero everywhere.
        precision: error of a row, relative to its length.
        generator: of the draws.
        deadline: after which it ends.
        draws: of rows, at most.

    Yields:
        What is known, after every turn; at least once.
    """
    if factor.shape[1] == 1:
        yield SparseColumns(factor.new_ones(1, 1), torch.zeros(1, len(factor), dtype=torch.bool), 0, complete=True)
        return
    search = _Search(factor / factor.norm(dim=1, keepdim=True), precision, generator)
    while True:
        search.turn()
        yield search.known()
        if search.draws >= draws or deadline.passed:
            return


class _Search:
    def __init__(self, rows: Float[Tensor, "rows rank"], precision: float, generator: torch.Generator) -> None:
        self.rows, self.generator, self.draws = rows, generator, 0
        self.small, self.zero = min(1e-2, _AMPLIFIED * precision), min(1e-2, _ROUNDED * precision)
        self.rank = rows.shape[1]
        # Candidates, whether or not they depend on each other, and where they vanish.
        self.candidates = rows.new_empty(0, self.rank)
        self.zeros = torch.empty(0, len(rows), dtype=torch.bool)
        self.chosen: list[int] = []

    def known(self) -> SparseColumns:
        complete = len(self.chosen) == self.rank
        return SparseColumns(self.candidates[self.chosen], self.zeros[self.chosen], self.draws, complete)

    def turn(self) -> None:
        """Draw some rows, among those that vanish in some known directions."""
        known, places = self._known_directions()
        rest = _complement(known, self.rank)
        before = len(self.candidates)
        for direction in self._sparse_in(self.rows[places] @ rest.T, rest):
            lifted = self._lifted(direction @ rest, known)
            if lifted is not None:
                self._add(lifted)
        if len(self.candidates) > before:
            self._choose()

    def _known_directions(self) -> tuple[Float[Tensor, "some rank"], Int64[Tensor, "places"]]:
        """Directions that are taken for granted this time, and the rows that vanish in all of them."""
        # Mixtures of columns are less sparse than columns: those are taken for granted last.
        chances = torch.rand(len(self.chosen), generator=self.generator) + 0.5
        order = (chances * self.zeros[self.chosen].sum(1)).argsort(descending=True).tolist()
        places, taken = torch.ones(len(self.rows), dtype=torch.bool), list[int]()
        most = len(order)
        if most and float(torch.rand((), generator=self.generator)) < 0.25:
            most = int(torch.randint(most + 1, (), generator=self.generator))
        for candidate in (self.chosen[place] for place in order):
            fewer = places & self.zeros[candidate]
            # Of those rows about half vanish in a further direction: more than its kernel is taken from.
            if len(taken) < min(most, self.rank - 1) and int(fewer.sum()) >= 3 * (self.rank - len(taken)) + 12:
                places = fewer
                taken.append(candidate)
        return self.candidates[taken], places.nonzero()[:, 0]

    def _sparse_in(
        self, rows: Float[Tensor, "places dimensions"], rest: Float[Tensor, "dimensions rank"]
    ) -> list[Float[Tensor, "dimensions"]]:
        """New directions in which many of these rows vanish."""
        count, dimensions = rows.shape
        if dimensions == 1:
            self.draws += 1
            return [rows.new_ones(1)]
        # The kernel of one row less than there are dimensions; a random one of its coordinates is one.
        self.draws += _DRAWS
        drawn = torch.rand(_DRAWS, count, generator=self.generator).topk(dimensions - 1, dim=1).indices
        systems = rows[drawn]
        solved, failed = torch.linalg.solve_ex(systems[..., :-1], -systems[..., -1:])
        directions = torch.cat([solved[..., 0], solved.new_ones(_DRAWS, 1)], 1)
        directions = directions[(failed == 0) & directions.isfinite().all(1)]
        directions = directions / directions.norm(dim=1, keepdim=True)
        vanishing = ((directions @ rows.T).abs() < self.small).sum(1)
        likely = vanishing >= dimensions - 1 + _SURPLUS
        best = vanishing.masked_fill(~likely, -1).argsort(descending=True)[: int(likely.sum())]
        known = self.candidates @ rest.T
        known = known / known.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return _distinct(directions[best], known, 2 * self.rank)

    def _lifted(
        self, direction: Float[Tensor, "rank"], known: Float[Tensor, "some rank"]
    ) -> Float[Tensor, "rank"] | None:
        """The direction with that part outside of the known ones in which most rows vanish; None if hardly any do."""
        entries, of_known = self.rows @ direction, self.rows @ known.T
        active = of_known.abs() > self.small
        coefficients = torch.zeros(len(known), dtype=direction.dtype)
        for place in range(len(known)):
            alone = active[:, place] & (active.sum(1) == 1)
            wanted = -entries[alone] / of_known[alone, place]
            if len(wanted) < 3:
                return None
            coefficients[place] = _most_common(wanted, self.small / of_known[alone, place].abs())
        lifted = direction + coefficients @ known
        unit: Tensor = lifted / lifted.norm()
        return unit

    def _add(self, direction: Float[Tensor, "rank"]) -> None:
        """Take a direction among the candidates, made as exact as the rows that vanish in it allow."""
        limit = self.small
        while True:
            vanishing = (self.rows @ direction).abs() < limit
            if int(vanishing.sum()) < self.rank - 1 + _SURPLUS:
                return
            if limit == self.zero:
                break
            *_, singular, right = torch.linalg.svd(self.rows[vanishing], full_matrices=True)
            if float(singular[-2]) < 10 * max(float(singular[-1]), self.zero):
                return  # a kernel of several dimensions holds more than one column
            if int(((self.rows[vanishing] @ right[-2]).abs() > self.small).sum()) < min(_WITNESSES, self.rank + 1):
                return  # a mixture of two columns, which vanishes where both do, and where it was made to
            direction, limit = right[-1], max(limit / 4, self.zero)
        if len(self.candidates) and float((self.candidates @ direction).abs().max()) > 1 - _SAME:
            return
        self.candidates = torch.cat([self.candidates, direction[None]])
        self.zeros = torch.cat([self.zeros, vanishing[None]])

    def _choose(self) -> None:
        """The sparsest candidates that are independent: a mixture of two columns vanishes where both do, or less."""
        order = self.zeros.sum(1).argsort(descending=True, stable=True).tolist()
        self.chosen = []
        for candidate in order:
            directions = self.candidates[[*self.chosen, candidate]]
            if len(directions) <= self.rank and float(torch.linalg.svdvals(directions)[-1]) > _INDEPENDENT:
                self.chosen.append(candidate)


def _complement(directions: Float[Tensor, "some rank"], rank: int) -> Float[Tensor, "rest rank"]:
    """Orthonormal rows that span what is perpendicular to all of them."""
    if not len(directions):
        return torch.eye(rank, dtype=directions.dtype)
    right: Tensor = torch.linalg.svd(directions, full_matrices=True).Vh
    return right[len(directions) :]


def _most_common(values: Float[Tensor, "some"], errors: Float[Tensor, "some"]) -> Tensor:
    """The value that most of them can be, so far as their errors go; the most exact of those."""
    agreeing = (values[:, None] - values).abs() <= errors[:, None] + errors
    crowd = agreeing[int(agreeing.sum(1).argmax())].nonzero()[:, 0]
    return values[crowd[errors[crowd].argmin()]]


def _distinct(
    directions: Float[Tensor, "some dimensions"], known: Float[Tensor, "others dimensions"], most: int
) -> list[Float[Tensor, "dimensions"]]:
    """The first of them that differ from each other and from known ones."""
    directions = directions[_differ(directions, known)]
    distinct: list[Tensor] = []
    while len(directions) and len(distinct) < most:
        distinct.append(directions[0])
        directions = directions[_differ(directions, directions[:1])]
    return distinct


def _differ(
    directions: Float[Tensor, "some dimensions"], others: Float[Tensor, "others dimensions"]
) -> Bool[Tensor, "some"]:
    return ((directions @ others.T).abs() < 1 - _SAME).all(1)
