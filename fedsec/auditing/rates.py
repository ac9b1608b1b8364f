"""Rates with exact binomial intervals, Clopper & Pearson, Biometrika 26 (1934).

The interval holds for every true rate, however small the sample; it is wider than approximations that do not.
"""

import math
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
