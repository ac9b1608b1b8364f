"""What the values of many clients say together: how good they are on average, how bad for the worst, how unlike.

Jain's index is that of Jain, Chiu, Hawe: A Quantitative Measure of Fairness and Discrimination for Resource Allocation
in Shared Computer Systems. DEC Research Report TR-301, 1984. The worst tenth and the variance are how Li, Sanjabi,
Beirami, Smith, Fair Resource Allocation in Federated Learning, ICLR 2020, arXiv:1905.10497, compare federations.
"""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

from fedsec.metrics.metric import Metric

WORST_SHARE = 0.1
"""Of the clients, whose mean stands for the worst off; at least one."""


def over_clients(values: Sequence[float], metric: Metric) -> dict[str, float | None]:
    """The figures of `Metric.over_clients`, by name.

    Args:
        values: of each client, finite or not; in any order.
        metric: what they are of; its direction says which are the worst.

    Returns:
        None each where there are no values, or one is not finite; no index where all are zero.
    """
    names = [row.name for row in metric.over_clients]
    if not values or not all(map(math.isfinite, values)):
        return dict.fromkeys(names)
    worst = sorted(values, reverse=metric.better == "lower")[: math.ceil(WORST_SHARE * len(values) - 1e-9)]
    return dict(zip(names, (fmean(values), fmean(worst), pstdev(values), jain_index(values)), strict=True))


def jain_index(values: Sequence[float]) -> float | None:
    """(sum x)^2 / (n sum x^2): from 1 / n, where one has everything, to 1, where all have the same.

    Args:
        values: at least one, none negative.

    Returns:
        None where all are zero.

    Reference: Jain, Chiu, Hawe 1984
    """
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None
