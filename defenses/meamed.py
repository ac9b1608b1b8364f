"""Meamed: in every coordinate the mean of the values around the median.

Reference: Xie, Koyejo, Gupta, Generalized Byzantine-tolerant SGD, 2018, arXiv:1802.10116.
"""

from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Scratch, near_median_mean, near_median_share
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


class Meamed(CoordinateRule):
    """Coordinate-wise mean of the n - f values nearest to the median (mean around median).

    Withstands f Byzantine clients of n >= 2f + 1. Ignores the clients' weights. Of two values equally far from the
    median, of which only one counts, half of each does. Every row rejected as not finite counts as Byzantine, so as
    many values count as before.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.

    Raises:
        InputError: the number is negative, or too large for the rows.

    Cost:
        One pass over the updates, in which the n values of each coordinate are partly sorted.

    Limits:
        As the median: attackers who stay within the spread of the honest values are not seen.

    Reference: Xie et al., 2018, arXiv:1802.10116
    """

    by_columns = True

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = checked_num_byzantine("Meamed", num_byzantine)

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        fewest = 2 * self.num_byzantine + 1
        if num_clients < fewest:
            raise InputError(
                f"Meamed: num_byzantine {self.num_byzantine} needs at least {fewest} rows, not {num_clients}"
            )
        return self.num_byzantine

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        return near_median_mean(chunk, self._count(cohort), scratch)

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        return near_median_share(chunk, self._count(cohort), scratch)

    def _count(self, cohort: Cohort) -> int:
        return cohort.num_rows - max(0, self.num_byzantine - cohort.num_rejected)
