"""The coordinate-wise median.

Reference: Yin, Chen, Ramchandran, Bartlett, Byzantine-robust distributed learning: towards optimal statistical rates,
ICML 2018, arXiv:1803.01498.
"""

from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Scratch, compiled_middle_mean, middle_mean, middle_share
from fedsec.defense.cohort import check_majority
from fedsec.defense.ranks import weighted_median, weighted_median_share
from fedsec.errors import InputError


class Median(CoordinateRule):
    """Coordinate-wise median; of an even number of clients the midpoint of the middle two.

    Withstands Byzantine clients that hold less than half of the weight: any minority of the clients, or `weighted`,
    clients with less than half of the weight between them, however many. Clients with a share s of it then move a
    coordinate at most between the quantiles 1/2 - s and 1/2 + s of all: with 0.6% of the weight, hardly at all.

    Args:
        compile: fuse everything into one loop: the same result to the last bit, several times as fast for up to 64
            clients on a CPU. A kernel for each number of clients is built once, in the background and some twenty
            seconds of a C++ compiler; until it is there, and where there is no compiler, rows go the ordinary way. It
            is kept in the user's cache, from which it is loaded in milliseconds. Not for `weighted`.
        weighted: the clients' weights count: the midpoint of the smallest value such that the values up to it have half
            of the weight, and of the largest such that the values from it on have. Weights then must be known by the
            server, such as from a contract of the sites: a client that states its own number of examples chooses its
            weight. With equal weights the result is the same as without.

    Raises:
        InputError: both are asked for.

    Cost:
        One pass over the updates, in which the n values of each coordinate are partly sorted.

    Limits:
        Attackers who stay within the spread of the honest values are not seen: ALIE, min-max. Where clients hold
        different classes, most of them do not move a coordinate that a few do, and their median is near zero.

    Reference: Yin et al., ICML 2018, arXiv:1803.01498
    """

    by_columns = True

    def __init__(self, compile: bool = False, weighted: bool = False) -> None:
        if compile and weighted:
            raise InputError("Median: there is no compiled kernel that counts by weight; expected compile or weighted")
        self.compile, self.uses_weights = compile, weighted

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority; by weight, as many as have less than half of it."""
        return num_clients - 1 if self.uses_weights else (num_clients - 1) // 2

    def staged(self, cohort: Cohort) -> Cohort:
        check_majority("Median", cohort)
        return cohort

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        if self.uses_weights and not cohort.equal_weights:
            return weighted_median(chunk, cohort.weights, scratch)
        trim = (len(chunk) - 1) // 2
        compiled = compiled_middle_mean(chunk, trim) if self.compile else None
        return middle_mean(chunk, trim, scratch) if compiled is None else compiled

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        if self.uses_weights and not cohort.equal_weights:
            return weighted_median_share(chunk, cohort.weights, scratch)
        return middle_share(chunk, (len(chunk) - 1) // 2, scratch)
