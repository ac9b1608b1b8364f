"""The coordinate-wise trimmed mean.

Reference: Yin, Chen, Ramchandran, Bartlett, Byzantine-robust distributed learning: towards optimal statistical rates,
ICML 2018, arXiv:1803.01498. There beta is the fraction trimmed at *each* end, as `trim_per_side` is here.
"""

from math import floor

from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Cohort, CoordinateRule, Scratch, compiled_middle_mean, middle_mean, middle_share
from fedsec.errors import InputError


class TrimmedMean(CoordinateRule):
    """Coordinate-wise mean without the largest and the smallest values.

    With b values trimmed at each end of n sorted values: (x_(b+1) + ... + x_(n-b)) / (n - 2b).
    Withstands b Byzantine clients. Ignores the clients' weights. Every row rejected as not finite
    counts as Byzantine, so one value less is then trimmed at each end.

    Args:
        trim_per_side: the fraction of the clients to trim at *each* end, in [0, 0.5): b = floor(fraction * n).
        num_trimmed_per_side: b itself; give one of the two.
        compile: fuse everything into one kernel with `torch.compile`: the same result, faster for up
            to some 30 clients, at the price of compiling once for each number of clients.

    Raises:
        InputError: not exactly one of the two is given, or it is out of range.

    Reference: Yin et al., ICML 2018, arXiv:1803.01498
    """

    by_columns = True

    def __init__(
        self,
        trim_per_side: float | None = None,
        num_trimmed_per_side: int | None = None,
        compile: bool = False,
    ) -> None:
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
        self.all_columns_at_once = compile

    def max_rejected(self, num_clients: int) -> int:
        """The number trimmed at each end."""
        if self.num_trimmed_per_side is not None:
            number = self.num_trimmed_per_side
        else:
            # A fraction such as 0.1 is a little off in binary; 0.1 of 30 clients are three.
            number = floor((self.trim_per_side or 0) * num_clients + 1e-9)
        if 2 * number >= num_clients:
            raise InputError(
                f"TrimmedMean trims {number} clients at each end, which leaves none of {num_clients}; "
                f"at most {(num_clients - 1) // 2} can be trimmed"
            )
        return number

    def reduce(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "columns"]:
        if self.all_columns_at_once:
            return compiled_middle_mean(len(chunk), self._trim(cohort), chunk.dtype)(chunk)
        return middle_mean(chunk, self._trim(cohort), scratch)

    def share(
        self, chunk: Float[Tensor, "clients columns"], cohort: Cohort, scratch: Scratch
    ) -> Float[Tensor, "clients"]:
        return middle_share(chunk, self._trim(cohort), scratch)

    def _trim(self, cohort: Cohort) -> int:
        return self.max_rejected(cohort.num_rows + cohort.num_rejected) - cohort.num_rejected
