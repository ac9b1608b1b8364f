"""Rates with exact binomial intervals, Clopper & Pearson, Biometrika 26 (1934).

The interval holds for every true rate, however small the sample; it is wider than approximations that do not.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.special import betaincinv

from fedsec.errors import InputError

Side = Literal["both", "lower", "upper"]


@dataclass(frozen=True)
class Rate:
    """So many of so many, and between what the true rate lies.

    Attributes:
        value: successes / trials; NaN without trials.
        low: the interval's lower end; 0 where nothing is known.
        high: its upper end; 1 where nothing is known.
        successes: how many.
        trials: of how many.
        confidence: of the interval, in (0, 1).
    """

    value: float
    low: float
    high: float
    successes: int
    trials: int
    confidence: float

    def as_dict(self) -> dict[str, Any]:
        """By name, fit for JSON: None for NaN."""
        values = asdict(self)
        return values | {"value": self.value if self.trials else None}

    def __str__(self) -> str:
        """As people write it: `0.125 [0.016, 0.383]`."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95, side: Side = "both") -> Rate:
    """A rate with its exact binomial interval.

    Args:
        successes: how many, from 0 to trials.
        trials: of how many independent ones; 0 for none, whose rate is NaN and whose interval is all of [0, 1].
        confidence: with which the interval holds the true rate, in (0, 1).
        side: `both`, or what errs on one side only: `lower` (up to 1) or `upper` (from 0), which is tighter there.

    Raises:
        InputError: counts that are none, or a confidence out of range.

    Reference: Clopper & Pearson, Biometrika 26 (1934).
    """
    check_confidence(confidence)
    if side not in ("both", "lower", "upper"):
        raise InputError(f"side must be both, lower or upper, got {side!r}")
    if not 0 <= successes <= trials:
        raise InputError(f"successes must lie between 0 and the number of trials, got {successes} of {trials}")
    miss = (1 - confidence) / 2 if side == "both" else 1 - confidence
    low = float(betaincinv(successes, trials - successes + 1, miss)) if successes and side != "upper" else 0.0
    failures = trials - successes
    high = float(betaincinv(successes + 1, failures, 1 - miss)) if failures and side != "lower" else 1.0
    value = successes / trials if trials else math.nan
    return Rate(value, low, high, int(successes), int(trials), confidence)


def clustered_rate(successes: Sequence[int], trials: Sequence[int], confidence: float = 0.95) -> Rate:
    """A rate of trials that come in clusters, whose interval takes clusters, and not trials, for independent.

    Clusters of n_k trials count as n = (sum n_k)^2 / sum n_k^2 of equal size, and the interval is the exact binomial
    one of n trials with this rate: as wide as if all trials of a cluster had the same outcome. It never takes a cluster
    for more than one trial, so that repeating the trials of all clusters changes nothing.

    Args:
        successes: of each cluster.
        trials: of each cluster; clusters without any are left out.
        confidence: with which the interval holds the rate of clusters, in (0, 1).

    Raises:
        InputError: counts that are none, more of one than of the other, or a confidence out of range.

    Reference: effective numbers of clusters: Kish, Survey Sampling, 1965.
    """
    check_confidence(confidence)
    if len(successes) != len(trials):
        raise InputError(f"expected successes and trials of the same clusters, got {len(successes)} and {len(trials)}")
    pairs = list(zip(successes, trials, strict=True))
    for hits, of in pairs:
        if not 0 <= hits <= of:
            raise InputError(f"successes must lie between 0 and the number of trials, got {hits} of {of}")
    total, hits = int(sum(trials)), int(sum(successes))
    if not total:
        return Rate(math.nan, 0.0, 1.0, 0, 0, confidence)
    number = total**2 / sum(of**2 for _, of in pairs)
    mean, miss = hits / total, (1 - confidence) / 2
    low = float(betaincinv(mean * number, (1 - mean) * number + 1, miss)) if hits else 0.0
    high = float(betaincinv(mean * number + 1, (1 - mean) * number, 1 - miss)) if hits < total else 1.0
    return Rate(mean, low, high, hits, total, confidence)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        InputError: it does not lie in (0, 1).
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), got {confidence}; 0.95 is usual")


def check_delta(delta: float) -> None:
    """Refuse what is no delta of a guarantee.

    Raises:
        InputError: it does not lie in [0, 1).
    """
    if not 0 <= delta < 1:
        raise InputError(f"delta must lie in [0, 1), got {delta}")
