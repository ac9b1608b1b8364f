"""Robust learning rate: where too few clients agree on a direction, the step goes the other way.

Reference: Ozdayi, Kantarcioglu, Gel, Defending against backdoors in federated learning with robust learning rate,
AAAI 2021, arXiv:2007.03767.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Scratch, weighted_sum
from fedsec.errors import AggregationError, InputError, count_of


class RLR(CoordinateRule):
    """The weighted mean, with its sign flipped in each coordinate in which the clients' signs do not agree enough.

    |sum_i sign(x_i)| >= theta: mean(x), else -mean(x).

    Meant against backdoors that a few clients push and the others do not; it does not bound what one client can do to
    the mean. One client has one vote, whatever its weight; one of weight zero has none. Rows rejected as not finite do
    not vote either, so the threshold is harder to reach; it must not exceed the number of those who vote.

    Args:
        threshold: theta, by how many votes one sign must prevail: more than the number of Byzantine clients, at most
            the number of honest ones less that of Byzantine ones.

    Raises:
        InputError: the threshold is negative, or exceeds the number of rows.

    Cost:
        n d: one pass over the updates.

    Limits:
        One long update moves the mean anywhere. Where honest clients disagree, their own step is reversed as well.
        Attackers who move only coordinates on which honest clients agree with them are not met.

    Example:
        threshold: 6

    Reference: Ozdayi et al., AAAI 2021, arXiv:2007.03767
    """

    by_columns = True
    uses_weights = True

    def __init__(self, threshold: int) -> None:
        if threshold < 0:
            raise InputError(f"RLR: threshold must not be negative, but is {threshold}")
        self.threshold = threshold

    def max_rejected(self, num_clients: int) -> int:
        """As many as leave enough votes to reach the threshold."""
        if self.threshold > num_clients:
            raise InputError(
                f"RLR: no {num_clients} signs reach a threshold of {self.threshold}, and every step would be flipped; "
                f"expected at most {num_clients}"
            )
        return min(num_clients - self.threshold, num_clients - 1)

    def staged(self, cohort: Cohort) -> Cohort:
        voters = len(_voters(cohort))
        if voters < self.threshold:
            raise AggregationError(
                f"RLR: {count_of(voters, 'client')} with weight, too few for a threshold of {self.threshold}: every "
                "step would be flipped"
            )
        return cohort

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        mean = weighted_sum(chunk, cohort.weights, scratch)
        agreed = chunk[_voters(cohort)].sign().sum(0, dtype=torch.float32).abs_() >= self.threshold
        return torch.where(agreed, mean, -mean)

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        return torch.tensor(cohort.weights, dtype=torch.float64, device=chunk.device)


def _voters(cohort: Cohort) -> list[int]:
    return [row for row, weight in enumerate(cohort.weights) if weight > 0]
