"""Interfaces of what needs inner products of the rows only: rules that weigh rows, and mixtures before a rule.

A round of a million parameters becomes a matrix of clients x clients, on which such a method thinks; the rows are read
once more for the result. Methods in a row hand on `W G W^T`, and no mixed copy of the rows is ever made for them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Cohort, relative_parts
from fedsec.defense.gram_matrix import Gram
from fedsec.defense.weighted_total import weighted_total
from fedsec.errors import InputError
from fedsec.threat.rows import as_given, as_matrix
from fedsec.threat.sealed import Sealed

__all__ = ["GramRule", "PreAggregator"]

_SLACK = 1e-9
"""Weights that exceed 1 by rounding alone do not."""


class GramRule(Aggregator):
    """An aggregator whose result is a weighted sum of the rows, with weights that follow from inner products.

    A subclass fills in `max_rejected` and `weights`, and `references` where it thinks with further points.

    Attributes:
        normalized: whether weights are relative and not negative, and the result a weighted mean. Otherwise they are
            coefficients of any sign and sum, and where all are zero the result is zero: no step.
    """

    sees_mixtures = True
    reads_products = True
    normalized: ClassVar[bool] = True

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        """Further points that the rule thinks with, which may count in its result; none by default.

        A center carried over from the last round, for instance, or the server's own update.

        Args:
            cohort: the rows before any pre-aggregator, of whose dtype and device references must be.
        """
        return None

    @abstractmethod
    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        """How much each row counts.

        Args:
            gram: inner products of the rows that the rule sees, and of its references.
            cohort: how many rows were rejected, and the generator of rules that draw; the rows themselves need not be
                looked at.

        Returns:
            One weight for each row and then, if they count, for each reference. Where the rule is `normalized` not
            negative, not all zero; they are divided by their sum.
        """

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        """The rows that count nothing."""
        return [row for row, weight in enumerate(cohort.weights) if weight == 0]

    @final
    def staged(self, cohort: Cohort) -> Cohort:
        if cohort.references is None:
            cohort = replace(cohort, references=self.checked_references(cohort))
        gram = cohort.gram or Gram.of(cohort.updates, cohort.references, cohort.weights, products=cohort.products)
        rows, points = cohort.num_rows, cohort.num_rows + cohort.num_references
        weights = self.weights(gram, cohort).detach().double().cpu()
        negative = self.normalized and bool((weights < 0).any())
        if weights.shape not in ((rows,), (points,)) or not bool(weights.isfinite().all()) or negative:
            raise InputError(
                f"{type(self).__name__}.weights: expected {rows} finite numbers"
                f"{f', or {points} with those of its references' if points > rows else ''}"
                f"{', none negative' if self.normalized else ''}, got {weights.tolist()}"
            )
        if self.normalized:
            total = float(weights.sum())
            if total <= 0:
                raise InputError(f"{type(self).__name__}.weights: expected a positive weight, got zeros only")
            weights = weights / total
        values = weights.tolist()
        return replace(cohort, weights=tuple(values[:rows]), reference_weights=tuple(values[rows:]), gram=gram)

    @final
    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        points = [(cohort.updates, cohort.row_weights().tolist())]
        if cohort.references is not None and any(cohort.reference_weights):
            points.append((cohort.references, list(cohort.reference_weights)))
        return weighted_total(points)

    @final
    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        """Of what the clients contributed together: what came from references is nobody's."""
        return torch.tensor(relative_parts(cohort.weights), dtype=torch.float64, device=cohort.updates.device)

    @final
    def checked_references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        """`references`, held to its contract.

        Raises:
            InputError: the subclass broke it.
        """
        references = self.references(cohort)
        if references is None:
            return None
        like = cohort.updates
        traits = references.shape[1:], references.dtype, references.device
        if traits != (like.shape[1:], like.dtype, like.device) or not bool(references.isfinite().all()):
            raise InputError(
                f"{type(self).__name__}.references: expected finite rows of {like.dtype} and {like.shape[1]} numbers "
                f"on {like.device}, got {references.dtype} of shape {tuple(references.shape)} on {references.device}"
            )
        return references


class PreAggregator(Sealed, ABC):
    """Mixes the rows of one round before a rule combines them; a subclass fills in `num_mixed` and `mixing`.

    In a `Pipeline` the next stage sees the mixed rows, and what it says of them is said of the clients again, each by
    its part in the mixture.

    Attributes:
        draws: whether it draws random numbers.
        reads_products: whether it asks for inner products of the rows, see `Aggregator`.
        by_columns: whether it needs nothing else of them, and remembers nothing, see `Aggregator`; not inherited by a
            class that replaces a method.
        single_clients: what it does with single clients, see `Aggregator`.
    """

    claims = ("by_columns",)
    role: ClassVar[str] = "pre_aggregation"
    single_clients: ClassVar[str] = ""
    reads_products: ClassVar[bool] = True
    by_columns: ClassVar[bool] = False
    draws: bool = False

    @final
    def __call__(
        self,
        updates: Float[Tensor, "clients parameters"] | np.ndarray | Sequence[Any],
        *,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The mixed rows, for a look at them or a rule of one's own; a `Pipeline` does not form them.

        Args:
            updates: finite, one row for each client; a matrix, an array or a list of rows, left unchanged.
            generator: of those that draw, on the CPU.

        Returns:
            A new matrix of the kind and dtype that was given; for a list of rows, a list of rows.

        Raises:
            InputError: the arguments are malformed, or there are too few rows.
        """
        name = type(self).__name__
        matrix = as_matrix(name, updates).detach()
        if not bool(matrix.isfinite().all()):
            raise InputError(f"{name}: expected finite updates; a Pipeline holds back those that are not")
        if self.draws and generator is None:
            raise InputError(f"{name}: draws random numbers; expected a generator, a new one for each call")
        count = len(matrix)
        self.num_mixed(count)  # refuses too few
        cohort = Cohort(matrix, (1 / count,) * count, 0, generator)
        mixed = replace(cohort, mixing=self.checked_mixing(Gram.of(matrix), cohort)).rows(slice(None))
        give = as_given(updates)
        return [give(row) for row in mixed] if isinstance(updates, list | tuple) else give(mixed)

    @abstractmethod
    def num_mixed(self, num_clients: int) -> int:
        """How many rows so many become.

        Raises:
            InputError: it cannot work with so many clients.
        """

    @abstractmethod
    def mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        """The matrix W: each mixed row's parts of the rows.

        Args:
            gram: inner products of the rows, worked out when first asked for.
            cohort: how many rows were rejected, and the generator; the rows themselves need not be looked at.

        Returns:
            Not negative; each row sums to one, or to less where the mixture is shortened.
        """

    def state(self) -> dict[str, Tensor]:
        """What the next call depends on beside its arguments, by name; nothing for most."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            InputError: it is not what this one remembers.
        """
        if state:
            raise InputError(f"{type(self).__name__} remembers nothing; expected no state, got {sorted(state)}")

    @final
    def checked_mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        """`mixing`, held to its contract.

        Raises:
            InputError: the subclass broke it.
        """
        mixing = self.mixing(gram, cohort).detach().double().cpu()
        sums = mixing.sum(1) if mixing.ndim == 2 else mixing
        shaped = mixing.ndim == 2 and mixing.shape[1] == len(gram) and len(mixing) > 0
        if not shaped or not bool(((mixing >= 0).all(1) & (sums <= 1 + _SLACK)).all()):
            raise InputError(
                f"{type(self).__name__}.mixing: expected [mixed, {len(gram)}] parts, not negative, of rows that sum to "
                f"at most one, got shape {tuple(mixing.shape)} and sums {sums.flatten().tolist()}"
            )
        return mixing
