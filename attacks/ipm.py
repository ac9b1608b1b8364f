"""Inner product manipulation: pull the average to the other side of the origin.

Reference: Xie, Koyejo, Gupta, Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation, UAI 2019,
arXiv:1903.03936.
"""

from math import isfinite
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning
from fedsec.threat.byzantine.collusion import check_scatter, colluding
from fedsec.threat.byzantine.spread import Spread


class IPM(UpdatePoisoning):
    """Sends the opposite of the mean of the honest updates, times a factor.

    -epsilon * mean

    The mean is over the honest clients' rows (knowledge omniscient) or over what the attackers would have sent honestly
    (own). A small factor hides near the origin and slows training; one above (n - m) / m turns the mean of n
    clients, m of them Byzantine, around.

    Args:
        epsilon: the factor, positive.
        knowledge: omniscient, or own.
        scatter: how far the attackers' rows are from what they agreed on, in [0, 1), as a share of the smallest
            distance between honest updates; 0: all send the same.

    Raises:
        InputError: the factor is not positive and finite.

    Cost:
        n d for the mean.

    Limits:
        A factor below (n - m) / m slows a mean and does not turn it around. Larger factors are longer than honest
        updates, and easier to tell.

    Reference: Xie et al., UAI 2019, arXiv:1903.03936
    """

    by_columns = True

    def __init__(
        self,
        epsilon: float = 0.1,
        knowledge: Literal["own", "omniscient"] = "omniscient",
        scatter: float = 0.0,
    ) -> None:
        check_scatter("IPM", scatter)
        if not (isfinite(epsilon) and epsilon > 0):
            raise InputError(f"IPM: epsilon must be positive and finite, not {epsilon}")
        self.epsilon, self.knowledge, self.scatter = epsilon, knowledge, scatter
        self.by_columns = self.by_columns and scatter == 0

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        spread = Spread(view.benign)
        return colluding(spread.mean * -self.epsilon, view, spread, self.scatter)
