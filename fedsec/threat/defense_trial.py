"""What an attacker who knows the defense can do with it: try it out, as often as it likes, unnoticed.

**Damage.** `opposition` is how far the defense's result lies behind the mean of the honest rows along the direction of
that mean: to first order, what a step loses of its descent, and negative where it gains. `distance` is the Euclidean
distance from that mean, which the theory of robust averaging bounds (Allouah et al., AISTATS 2023, arXiv:2302.01772);
who pushes sideways does damage of this kind only, and harms training less. Neither needs data or model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["DefenseTrial", "MixtureTrial", "Objective", "Outcome"]

Objective = Literal["distance", "opposition"]
"""What an attacker makes as large as it can, see above."""


@dataclass(frozen=True)
class Outcome:
    """Where a defense's result lies, beside the mean of the honest rows.

    Attributes:
        distance: from the result to that mean.
        result_norm: length of the result.
        mean_norm: length of that mean.
    """

    distance: float
    result_norm: float
    mean_norm: float

    def damage(self, objective: Objective) -> float:
        """How far the defense was led astray, in the updates' unit; more is worse for the server."""
        if objective == "distance":
            return self.distance
        if self.mean_norm == 0:
            return 0.0
        return (self.distance**2 + self.mean_norm**2 - self.result_norm**2) / (2 * self.mean_norm)


class DefenseTrial(ABC):
    """The server's whole defense: pre-aggregators, rule, a copy of its state.

    What the defense draws comes from the attacker's random stream, the same numbers at every trial: two candidates
    differ in their rows alone. What the server will draw, nobody knows.
    """

    @abstractmethod
    def __call__(self, rows: Float[Tensor, "clients parameters"]) -> Float[Tensor, "parameters"]:
        """What the server would make of these rows; of a defense that draws, one of the results.

        Args:
            rows: the honest clients' in the order of the view, then the Byzantine ones'. Fewer are taken for a round
                in which the others' were not finite, where it is known how many clients take part.

        Raises:
            AggregationError: too few of the rows are finite.
            InputError: the defense cannot work with so many.
        """

    @abstractmethod
    def damage(
        self,
        rows: Float[Tensor, "clients parameters"],
        mean: Float[Tensor, "parameters"],
        objective: Objective = "distance",
    ) -> float:
        """What these rows do, all of them looked at; of a defense that draws, on average over a few draws.

        Args:
            rows: as above.
            mean: what the result should be: the mean of the honest rows.
            objective: what counts.

        Returns:
            The damage, in the updates' unit; minus infinity where the server would not take the rows at all.
        """

    @abstractmethod
    def mixtures(self, points: Float[Tensor, "points parameters"], num_clients: int) -> "MixtureTrial":
        """The defense on rows that are mixtures of a few points, for searches: the points are read once.

        Args:
            points: finite; whatever rows are made of, such as honest rows and directions.
            num_clients: how many rows the server receives.

        Raises:
            InputError: the defense cannot work with so many rows.
        """


class MixtureTrial(ABC):
    """A defense on rows that are mixtures of known points.

    Attributes:
        exact: whether every coordinate is looked at; otherwise a sample of them stands for all.
        fast: whether a trial costs far less than an aggregation of all the rows.
    """

    exact: bool
    fast: bool

    @abstractmethod
    def squared_distances(self, mixing: Float64[Tensor, "rows points"]) -> Float64[Tensor, "ends ends"]:
        """Between every two of the mixtures, and the origin after them."""

    @abstractmethod
    def coefficients(self, mixing: Float64[Tensor, "clients points"]) -> Float64[Tensor, "points"] | None:
        """What the defense gives, as coefficients of the points; None of one that does not combine rows linearly.

        Args:
            mixing: how the rows that the server receives are made of the points; honest clients' first.

        Returns:
            One for each point, and then for each further point that the defense brings, such as a center of its own.
        """

    @abstractmethod
    def damage(
        self,
        mixing: Float64[Tensor, "clients points"],
        mean: Float64[Tensor, "points"],
        objective: Objective = "distance",
    ) -> float:
        """What the rows `mixing @ points` do, as `DefenseTrial.damage` says; an estimate where not `exact`.

        Args:
            mixing: as above.
            mean: coefficients of what the result should be.
            objective: what counts.
        """
