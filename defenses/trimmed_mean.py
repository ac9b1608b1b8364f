"""The coordinate-wise trimmed mean.

Reference: Yin, Chen, Ramchandran, Bartlett, Byzantine-robust distributed learning: towards optimal statistical rates,
ICML 2018, arXiv:1803.01498. There beta is the fraction trimmed at *each* end, as `trim_per_side` is here.
"""

from math import floor

from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Scratch, compiled_middle_mean, middle_mean, middle_share
from fedsec.defense.ranks import weighted_trimmed_mean, weighted_trimmed_share
from fedsec.errors import AggregationError, InputError, count_of


class TrimmedMean(CoordinateRule):
    """Coordinate-wise mean without the largest and the smallest values.

    (x_(b+1) + ... + x_(n-b)) / (n - 2b), with b of n sorted values trimmed at each end

    Withstands b Byzantine clients, whatever the clients' weights. Every row rejected as not finite counts as Byzantine,
    so one value less is then trimmed at each end.

    `weighted`, the mean of the values by their weight, without the smallest and the largest that have the trimmed share
    of the weight at each end; a value that is partly in that share counts for the rest of its weight. It withstands
    Byzantine clients that have at most that share between them, however many.

    Args:
        trim_per_side: the fraction of the clients to trim at *each* end, in [0, 0.5): b = floor(fraction * n);
            `weighted`, the very fraction of the weight.
        num_trimmed_per_side: b itself; give one of the two. `weighted`, the weight that b clients have on average.
        compile: fuse everything into one loop: the same result to the last bit, several times as fast for up to 64
            clients on a CPU. A kernel for each number of clients is built once, in the background and some twenty
            seconds of a C++ compiler; until it is there, and where there is no compiler, rows go the ordinary way. It
            is kept in the user's cache, from which it is loaded in milliseconds. Not for `weighted`.
        weighted: the clients' weights count. They then must be known by the server, such as from a contract of the
            sites: a client that states its own number of examples chooses its weight.

    Raises:
        InputError: not exactly one of the two is given, or it is out of range, or there is no such kernel.

    Cost:
        One pass over the updates, in which the n values of each coordinate are partly sorted.

    Limits:
        Attackers who stay within the spread of the honest values are not seen: ALIE, min-max. Fang's attack stands
        beyond them on one side, so that honest values are trimmed on the other. b values are trimmed at each end where
        nobody attacks, too.

    Example:
        num_trimmed_per_side: 2

    Reference: Yin et al., ICML 2018, arXiv:1803.01498
    """

    by_columns = True

    def __init__(
        self,
        trim_per_side: float | None = None,
        num_trimmed_per_side: int | None = None,
        compile: bool = False,
        weighted: bool = False,
    ) -> None:
        if compile and weighted:
            raise InputError(
                "TrimmedMean: there is no compiled kernel that counts by weight; expected compile or weighted"
            )
        if (trim_per_side is None) == (num_trimmed_per_side is None):
            raise InputError("TrimmedMean needs exactly one of trim_per_side and num_trimmed_per_side")
        if trim_per_side is not None and not 0 <= trim_per_side < 0.5:
            raise InputError(
                f"trim_per_side is a fraction of the clients at each end, in [0, 0.5), not {trim_per_side}"
            )
        if num_trimmed_per_side is not None and num_trimmed_per_side < 0:
            raise InputError(f"num_trimmed_per_side must not be negative, but is {num_trimmed_per_side}")
        self.trim_per_side = trim_per_side
        self.num_trimmed_per_side = num_trimmed_per_side
        self.compile, self.uses_weights = compile, weighted

    def max_rejected(self, num_clients: int) -> int:
        """The number trimmed at each end; by weight, as many as have no more than the trimmed share of it."""
        number = self._number(num_clients)
        return num_clients - 1 if self.uses_weights else number

    def _number(self, num_clients: int) -> int:
        if self.num_trimmed_per_side is not None:
            number = self.num_trimmed_per_side
        else:
            # A fraction such as 0.1 is a little off in binary; 0.1 of 30 clients are three.
            number = floor((self.trim_per_side or 0) * num_clients + 1e-9)
        if 2 * number >= num_clients:
            raise InputError(
                f"TrimmedMean trims {count_of(number, 'client')} at each end, which leaves none of {num_clients}; "
                f"at most {(num_clients - 1) // 2} can be trimmed"
            )
        return number

    def staged(self, cohort: Cohort) -> Cohort:
        if self.uses_weights and cohort.rejected_weight > self._share(cohort) + _ROUNDING:
            raise AggregationError(
                f"TrimmedMean: rows with {cohort.rejected_weight:.1%} of the weight hold NaN or infinity; at most "
                f"{self._share(cohort):.1%} may be lost"
            )
        return cohort

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        if self._by_weight(cohort):
            return weighted_trimmed_mean(chunk, cohort.weights, self._rest(cohort), scratch)
        trim = self._trim(cohort)
        compiled = compiled_middle_mean(chunk, trim) if self.compile else None
        return middle_mean(chunk, trim, scratch) if compiled is None else compiled

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        if self._by_weight(cohort):
            return weighted_trimmed_share(chunk, cohort.weights, self._rest(cohort), scratch)
        return middle_share(chunk, self._trim(cohort), scratch)

    def _trim(self, cohort: Cohort) -> int:
        return self._number(cohort.num_rows + cohort.num_rejected) - cohort.num_rejected

    def _share(self, cohort: Cohort) -> float:
        """Of all the weight, what to trim at each end."""
        if self.num_trimmed_per_side is None:
            return self.trim_per_side or 0.0
        return self.num_trimmed_per_side / (cohort.num_rows + cohort.num_rejected)

    def _rest(self, cohort: Cohort) -> float:
        """Of the weight of the rows that were not rejected, what is left to trim."""
        return max(0.0, self._share(cohort) - cohort.rejected_weight) / (1 - cohort.rejected_weight)

    def _by_weight(self, cohort: Cohort) -> bool:
        """Whether weights change anything; where they are equal and whole clients are cut, they do not."""
        if not self.uses_weights:
            return False
        number = self._rest(cohort) * cohort.num_rows
        return not cohort.equal_weights or abs(number - round(number)) > _ROUNDING


_ROUNDING = 1e-9
