"""Majority vote of signs: every client has one vote a coordinate.

Reference: Bernstein, Zhao, Azizzadenesheli, Anandkumar, signSGD with majority vote is communication efficient and fault
tolerant, ICLR 2019, arXiv:1810.05291. There clients send signs and the server's learning rate is the step; here they
may send whole updates, of which only the signs count, and `scale` is the step.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Scratch
from fedsec.errors import InputError


class SignMajority(CoordinateRule):
    """Coordinate-wise sign of the sum of the clients' signs, times a step.

    scale * sign(sum_i sign(x_i)); a coordinate whose votes are even is left as it is, and a zero is no vote.

    No client moves a coordinate further than the step, and any minority is outvoted where the honest clients agree.
    Ignores the clients' weights, and how long updates are.

    Args:
        scale: how far a coordinate moves, in units of an update.

    Raises:
        InputError: the step is not positive.

    Cost:
        n d: one pass over the updates.

    Limits:
        Where honest clients disagree about signs, a few votes decide. A coordinate moves by the whole step or not at
        all, however small the updates are, so the scale has to fit the learning rate.

    Example:
        scale: 0.01

    Reference: Bernstein et al., ICLR 2019, arXiv:1810.05291
    """

    by_columns = True

    def __init__(self, scale: float = 1.0) -> None:
        if not 0 < scale < float("inf"):
            raise InputError(f"SignMajority: scale must be a positive number, but is {scale}")
        self.scale = scale

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority."""
        return (num_clients - 1) // 2

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        step = min(self.scale, torch.finfo(chunk.dtype).max)
        return chunk.sign().sum(0).sign_().mul_(step)

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        """Those who voted for the outcome share it; where the votes were even, all do."""
        votes = chunk.sign()
        won = votes == votes.sum(0).sign_()
        even = ~(won & (votes != 0)).any(0)
        won = torch.where(even, torch.ones_like(won), won)
        return (won.double() / won.sum(0)).sum(1) / chunk.shape[1]
