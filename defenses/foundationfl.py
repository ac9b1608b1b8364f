"""FoundationFL: copies of the update that is furthest from all extremes, before a rule that is well known.

Reference: Fang, Nabavirazavi, Liu, Sun, Iyengar, Yang, Do we really need to design new Byzantine-robust aggregation
rules?, NDSS 2025, arXiv:2501.17381.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, PreAggregator
from fedsec.defense.columns import for_each_chunk
from fedsec.defense.order_statistics import Scratch
from fedsec.errors import InputError

_SMALL, _LARGE = 1e-140, 1e140
"""Squares of numbers beyond them, and sums of these, may be more or less than float64 can hold."""


class FoundationFL(PreAggregator):
    """Adds synthetic updates to the clients': copies of the one that lies furthest from the extremes.

    score_i = min(||x_i - x_max||, ||x_i - x_min||), with the largest and the smallest values of all in every coordinate

    The client of the highest score is copied; of equal ones the first.

    Before `trimmed_mean` or `median` it is the paper's defense, `defense: [foundationfl, median]`. Both then give a
    result nearer to the copied client, and that may be a Byzantine one: of 10 clients of which 3 flip their signs
    one of those is copied in some rounds, and with its five copies they are most of what the rule sees. So f Byzantine
    clients have the majority once they are copied, unless there are fewer than n - 2f copies. The score was read in
    another library; the paper's number of copies could not be.

    Args:
        num_synthetic: m, how many copies; null: half as many as there are updates, rounded down.

    Raises:
        InputError: a negative number.

    Cost:
        Two passes over the updates; then whatever the rule costs with the copies.

    Limits:
        The client that is copied may be Byzantine; with n - 2f copies or more the attackers are then no minority.

    Reference: Fang et al., NDSS 2025, arXiv:2501.17381
    """

    def __init__(self, num_synthetic: int | None = None) -> None:
        if num_synthetic is not None and num_synthetic < 0:
            raise InputError(f"FoundationFL: num_synthetic must not be negative, but is {num_synthetic}")
        self.num_synthetic = num_synthetic

    def num_mixed(self, num_clients: int) -> int:
        return num_clients + (num_clients // 2 if self.num_synthetic is None else self.num_synthetic)

    def mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        count = len(gram)
        copied = torch.full((self.num_mixed(count) - count,), int(_scores(cohort).argmax()))
        return torch.eye(count, dtype=torch.float64)[torch.cat([torch.arange(count), copied])]


def _scores(cohort: Cohort) -> Float64[Tensor, "rows"]:
    """Each row's distance from the nearer extreme, in units of a common length."""
    updates = cohort.updates
    unit = 1.0
    if updates.dtype == torch.float64:
        largest = float(updates.abs().amax())
        unit = 1.0 if largest == 0 or _SMALL < largest < _LARGE else largest
    totals: list[Tensor] = []

    def add(columns: slice, index: int, scratch: Scratch) -> None:
        rows = cohort.rows(columns).double() / unit
        extremes = rows.amax(0), rows.amin(0)
        totals.append(torch.stack([(rows - extreme).square().sum(1) for extreme in extremes]))

    for_each_chunk(updates, add, wide=True)
    scores: Tensor = torch.stack(totals).sum(0).amin(0).cpu()
    return scores
