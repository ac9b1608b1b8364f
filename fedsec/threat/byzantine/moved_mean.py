"""The mean of honest updates, moved as far as some measure of their spread allows."""

from abc import abstractmethod
from typing import Literal

from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.byzantine.collusion import check_scatter, colluding
from fedsec.threat.byzantine.spread import DIRECTIONS, Direction, Spread
from fedsec.threat.poisoning import AttackerView, UpdatePoisoning

__all__ = ["MovedMean"]


class MovedMean(UpdatePoisoning):
    """Sends mean + gamma * p with the largest gamma that a subclass allows; reports gamma.

    Args:
        direction: p. unit: -mean / ||mean||; sign: -sign(mean); std: minus the unbiased standard deviations.
        knowledge: whether the mean is of the honest clients' rows (omniscient), or of what the attackers would have
            sent honestly (own).
        scatter: how far the attackers' rows are from what they agreed on, in [0, 1), as a share of the smallest
            distance between honest updates; 0: all send the same.

    Raises:
        InputError: an unknown direction.
    """

    def __init__(
        self,
        direction: Direction = "std",
        knowledge: Literal["own", "omniscient"] = "omniscient",
        scatter: float = 0.0,
    ) -> None:
        name = type(self).__name__
        check_scatter(name, scatter)
        if direction not in DIRECTIONS:
            raise InputError(f"{name}: direction must be one of {', '.join(DIRECTIONS)}, not {direction!r}")
        self.direction, self.knowledge, self.scatter = direction, knowledge, scatter

    @abstractmethod
    def largest(self, spread: Spread, direction: Float64[Tensor, "parameters"]) -> float:
        """The largest gamma; 0 for a direction of length zero."""

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        spread = Spread(view.benign)
        direction = spread.against(self.direction)
        gamma = self.largest(spread, direction)
        view.report["gamma"] = gamma
        if gamma == 0:
            view.report["remark"] = (
                f"{type(self).__name__} found no room among the honest updates and sent their mean: no attack"
            )
        return colluding(spread.mean + gamma * direction, view, spread, self.scatter)
