"""A defense on rows that are mixtures of a few points: what a search over one-dimensional families costs.

Rules that weigh rows by inner products, and the mixtures before them, think in a matrix of clients x clients; where the
rows are mixtures of points that were read once, that matrix follows from the points' own (`W G W^T`), and so does the
distance of the result from any other mixture. A trial then costs clients x clients work whatever the model's size.
Rules of single coordinates are tried on a sample of the coordinates, and the others on all the rows.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Cohort
from fedsec.defense.gram import GramRule
from fedsec.defense.gram_matrix import Gram
from fedsec.defense.pipeline import Pipeline
from fedsec.threat.defense_trial import DefenseTrial, MixtureTrial, Objective, Outcome

if TYPE_CHECKING:
    from fedsec.defense.trial import AggregatorTrial

__all__ = ["LinearMixtures", "RowMixtures", "SampledMixtures", "final_rule"]

SAMPLE = 1 << 14
"""At how many coordinates a search looks: a few percent of error in a squared distance."""

_SMALL = 1 << 18
"""Rows of so many numbers altogether are aggregated in about a millisecond."""


def final_rule(defense: Aggregator) -> Aggregator | None:
    """The rule behind a defense's pre-aggregators; None where clients' rows are transformed before."""
    if not isinstance(defense, Pipeline):
        return defense
    return None if defense.transforms else defense.rule


class RowMixtures(MixtureTrial):
    """Forms the rows and tries the defense on them: right for every defense.

    Args:
        trial: of the defense.
        points: finite.
    """

    exact = True

    def __init__(self, trial: DefenseTrial, points: Float[Tensor, "points parameters"]) -> None:
        self.trial, self.points, self.fast = trial, points, points.numel() <= _SMALL

    def squared_distances(self, mixing: Float64[Tensor, "rows points"]) -> Float64[Tensor, "ends ends"]:
        return _squared_distances(self._gram, mixing)

    def coefficients(self, mixing: Float64[Tensor, "clients points"]) -> None:
        return None

    def damage(
        self,
        mixing: Float64[Tensor, "clients points"],
        mean: Float64[Tensor, "points"],
        objective: Objective = "distance",
    ) -> float:
        points = self.points
        rows, center = (coefficients.to(points) @ points for coefficients in (mixing, mean))
        return self.trial.damage(rows, center, objective)

    @cached_property
    def _gram(self) -> Gram:
        return Gram.of(self.points)


class _CohortMixtures(MixtureTrial):
    """Hands the defense a cohort whose rows nobody forms.

    Args:
        trial: of a defense that ends in a rule which sees mixtures.
        points: finite.
        num_clients: how many rows the server receives.
        columns: of the points that the rule is shown; all by default.
    """

    def __init__(
        self,
        trial: "AggregatorTrial",
        points: Float[Tensor, "points parameters"],
        num_clients: int,
        columns: Tensor | None = None,
    ) -> None:
        self.trial, self.points = trial, points
        self.fast = not trial.rule.draws  # several draws a trial, and some draw coordinates to look at
        self._shown = points if columns is None else points[:, columns.to(points.device)]
        self._cohort = trial.cohort(self._shown, num_clients, columns)
        self._draws: dict[int, _Draw] = {}

    def squared_distances(self, mixing: Float64[Tensor, "rows points"]) -> Float64[Tensor, "ends ends"]:
        return _squared_distances(self._draw(0).gram, mixing)

    def damage(
        self,
        mixing: Float64[Tensor, "clients points"],
        mean: Float64[Tensor, "points"],
        objective: Objective = "distance",
    ) -> float:
        draws = range(self.trial.num_draws)
        return fmean(self._outcome(self._staged(mixing, draw), mean, draw).damage(objective) for draw in draws)

    @abstractmethod
    def _outcome(self, staged: Cohort, mean: Tensor, draw: int) -> Outcome:
        """Of what the rule makes of a cohort that went through its stages."""

    def _staged(self, mixing: Tensor, draw: int) -> Cohort:
        mixing, known = self.trial.received(mixing.double().cpu()), self._draw(draw)
        return self.trial.rule.staged(
            replace(
                self._cohort,
                generator=known.generator(),
                mixing=mixing.to(self.points.device),
                gram=known.gram.mixed(mixing),
                references=known.references,
            )
        )

    def _draw(self, draw: int) -> "_Draw":
        """What does not depend on how the rows are made of the points; references may be drawn, such as noise."""
        if draw not in self._draws:
            rule, generator, references = final_rule(self.trial.rule), self.trial.drawn(draw), None
            if isinstance(rule, GramRule):
                references = rule.checked_references(replace(self._cohort, generator=generator))
            shared = next((known.gram for known in self._draws.values() if references is None), None)
            gram = Gram.of(self.points, references) if shared is None else shared
            self._draws[draw] = _Draw(references, gram, None if generator is None else generator.get_state())
        return self._draws[draw]


@dataclass(frozen=True)
class _Draw:
    """One of the draws of a defense.

    Attributes:
        references: of the rule.
        gram: of the points and these.
        state: of the generator after references were drawn; None of a defense that does not draw.
    """

    references: Tensor | None
    gram: Gram
    state: Tensor | None

    def generator(self) -> torch.Generator | None:
        """What the defense draws from next."""
        if self.state is None:
            return None
        generator = torch.Generator()
        generator.set_state(self.state)
        return generator

    @cached_property
    def distances(self) -> Float64[Tensor, "ends ends"]:
        """Squared, between every two points and references, the origin last."""
        return _with_origin(self.gram.squared_distances(references=True), self.gram.squared_norms(references=True))


class LinearMixtures(_CohortMixtures):
    """Of a rule that combines rows with coefficients that follow from inner products: no row is ever formed."""

    exact = True

    def coefficients(self, mixing: Float64[Tensor, "clients points"]) -> Float64[Tensor, "points"]:
        return self._combination(self._staged(mixing, 0))

    def _outcome(self, staged: Cohort, mean: Tensor, draw: int) -> Outcome:
        result = self._combination(staged)
        center = torch.zeros_like(result)
        center[: len(mean)] = mean
        known = self._draw(draw)
        return Outcome(*(_length(vector, known) for vector in (result - center, result, center)))

    @staticmethod
    def _combination(staged: Cohort) -> Tensor:
        assert staged.mixing is not None
        points = torch.tensor(staged.weights, dtype=torch.float64) @ staged.mixing.cpu()
        references = torch.zeros(staged.num_references, dtype=torch.float64)
        references[: len(staged.reference_weights)] = torch.tensor(staged.reference_weights, dtype=torch.float64)
        return torch.cat([points, references])


class SampledMixtures(_CohortMixtures):
    """Of a rule of single coordinates: some of them, drawn evenly, stand for all."""

    def __init__(self, trial: "AggregatorTrial", points: Float[Tensor, "points parameters"], num_clients: int) -> None:
        size = points.shape[1]
        self.exact = size <= SAMPLE
        columns = None if self.exact else torch.randint(size, (SAMPLE,), generator=trial.generator).sort().values
        super().__init__(trial, points, num_clients, columns)
        self._scale = (size / self._shown.shape[1]) ** 0.5

    def coefficients(self, mixing: Float64[Tensor, "clients points"]) -> None:
        return None

    def _outcome(self, staged: Cohort, mean: Tensor, draw: int) -> Outcome:
        result = self.trial.rule.combine(staged).double()
        center = (mean.to(self._shown) @ self._shown).double()
        lengths = [float(torch.linalg.vector_norm(vector)) for vector in (result - center, result, center)]
        return Outcome(*(length * self._scale for length in lengths))


def _length(coefficients: Tensor, known: _Draw) -> float:
    """Of a combination of points and references: from their distances, which hold where points are close."""
    ends = torch.cat([coefficients, -coefficients.sum()[None]])
    squared = -(ends @ known.distances @ ends) / 2
    return float(squared.clamp_min(0).sqrt()) * known.gram.unit


def _squared_distances(gram: Gram, mixing: Tensor) -> Tensor:
    mixed = gram.mixed(mixing.double().cpu())
    return _with_origin(mixed.squared_distances(), mixed.squared_norms()) * gram.unit**2


def _with_origin(between: Tensor, norms: Tensor) -> Tensor:
    """Squared distances of points and of the origin after them."""
    return torch.cat([torch.cat([between, norms[:, None]], 1), torch.cat([norms, norms.new_zeros(1)])[None]])
