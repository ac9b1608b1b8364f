"""Bucketing: updates are averaged in random groups, before a robust rule combines the groups' means.

Reference: Karimireddy, He, Jaggi, Byzantine-robust learning on heterogeneous datasets via bucketing, ICLR 2022,
arXiv:2006.09365.
"""

from math import ceil

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, PreAggregator
from fedsec.errors import InputError


class Bucketing(PreAggregator):
    """Shuffles the updates anew in each round and averages them in buckets; the rule sees ceil(n / s) of those.

    The last bucket may hold fewer. As many buckets may be Byzantine as there are Byzantine clients: the rule has to
    withstand just as many of fewer rows.

    Args:
        size: s, how many updates share a bucket; 1 leaves them as they are.

    Raises:
        InputError: the size is not positive.

    Cost:
        A permutation of n numbers; mixing is done along with the rule's own passes.

    Limits:
        f stays the same while there are fewer rows: with s = 2 a rule that withstands a minority withstands half as
        large a one. A bucket is judged as a whole, and honest clients with the attacker in theirs.

    Reference: Karimireddy et al., ICLR 2022, arXiv:2006.09365
    """

    by_columns = True
    draws = True
    reads_products = False

    def __init__(self, size: int = 2) -> None:
        if size < 1:
            raise InputError(f"Bucketing: size must be at least 1, but is {size}")
        self.size = size

    def num_mixed(self, num_clients: int) -> int:
        return ceil(num_clients / self.size)

    def mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        count = len(gram)
        mixing = torch.zeros(self.num_mixed(count), count, dtype=torch.float64)
        order = torch.randperm(count, generator=cohort.generator)
        for bucket, members in enumerate(torch.split(order, self.size)):
            mixing[bucket, members] = 1 / len(members)
        return mixing
