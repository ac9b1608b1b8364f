"""Min-max: as far away as honest updates are from each other, and no farther.

Reference: Shejwalkar, Houmansadr, Manipulating the Byzantine: optimizing model poisoning attacks and defenses for
federated learning, NDSS 2021. Where they halve steps to a threshold, the largest distance is solved for: for each
honest row it is the root of a quadratic equation.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.threat.byzantine.moved_mean import MovedMean
from fedsec.threat.byzantine.spread import Spread


class MinMax(MovedMean):
    """Sends the mean of the honest updates, moved until it is as far from one of them as any two are from each other.

    mean + gamma * p with the largest gamma for which max_i ||mean + gamma p - g_i|| <= max_ij ||g_i - g_j||

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
        """The gamma at which the first row's distance reaches the bound; 0 for a direction of length zero."""
        square = float(direction @ direction)
        if square == 0:
            return 0.0
        # ||mean - g + gamma p||^2 = bound: square gamma^2 + 2 half gamma + constant = 0, where constant <= 0.
        half = -spread.projections(direction)
        constant = (spread.squared_deviations() - spread.squared_distances().max()).clamp_max(0)
        root = (half.square() - square * constant).sqrt()
        # Of two forms of the positive root the one that adds numbers of one sign.
        gammas = torch.where(half > 0, -constant / (half + root), (root - half) / square)
        return max(0.0, float(gammas.min()))
