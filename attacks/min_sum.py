"""Min-sum: as far from all honest updates together as the most remote of them is.

Reference: Shejwalkar, Houmansadr, Manipulating the Byzantine: optimizing model poisoning attacks and defenses for
federated learning, NDSS 2021. The bound is the paper's, the largest sum; their notebooks take the smallest. The largest
distance is solved for in closed form.
"""

from math import sqrt

from jaxtyping import Float64
from torch import Tensor

from fedsec.threat.byzantine.moved_mean import MovedMean
from fedsec.threat.byzantine.spread import Spread


class MinSum(MovedMean):
    """Sends the mean of the honest updates, moved until it is as far from all of them as the most remote one.

    mean + gamma * p with the largest gamma for which sum_i ||mean + gamma p - g_i||^2 <= max_i sum_j ||g_i - g_j||^2

    All attackers send the same. Reports gamma.

    Args:
        direction: p. unit: -mean / ||mean||; sign: -sign(mean); std: minus the unbiased standard deviations.
        knowledge: whether g are the honest clients' rows (omniscient), or what the attackers would have sent honestly
            (own).
        scatter: how far the attackers' rows are from what they agreed on, in [0, 1), as a share of the smallest
            distance between honest updates; 0: all send the same.

    Raises:
        InputError: an unknown direction.

    Cost:
        n^2 d for the distances between honest updates.

    Limits:
        Attackers all send the same along one direction: DnC is its authors' answer (Shejwalkar and Houmansadr, NDSS
        2021). With knowledge own it guesses the spread from its own clients.

    Reference: Shejwalkar and Houmansadr, NDSS 2021
    """

    def largest(self, spread: Spread, direction: Float64[Tensor, "parameters"]) -> float:
        """The gamma at which the sum reaches its bound; 0 for a direction of length zero."""
        square = len(spread) * float(direction @ direction)
        if square == 0:
            return 0.0
        # About their mean the rows' deviations sum to zero: what is linear in gamma drops out.
        room = float(spread.squared_distances().sum(1).max() - spread.squared_deviations().sum())
        return sqrt(max(0.0, room) / square)
