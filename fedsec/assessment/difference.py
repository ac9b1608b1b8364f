"""Intervals of rates, and of how far two rates lie apart, from counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from fedsec.auditing import clopper_pearson

__all__ = ["Estimate", "difference", "exact_interval", "of_seeds"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that it lies in.

    Args:
        value: of a fraction or a difference of fractions.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def points(self) -> str:
        """As percentage points: `85.6 [81.2..89.1]`."""
        return f"{_plain(100 * self.value)} [{_plain(100 * self.low)}..{_plain(100 * self.high)}]"

    def as_json(self) -> dict[str, float]:
        """Plain data."""
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}


def exact_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """A rate with its Clopper-Pearson interval, which covers with at least the confidence.

    Args:
        successes: of the trials.
        trials: at least one.
        confidence: of both sides together.

    Reference: Clopper and Pearson, Biometrika 26, 1934
    """
    rate = clopper_pearson(successes, trials, confidence)
    return Estimate(successes / trials, rate.low, rate.high)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """`one` less `other`, two rates measured apart: Newcombe's square-and-add interval.

    On the same test examples two rates go together, so that the interval is wider than it had to be.

    Args:
        one: with its interval.
        other: with its interval.

    Reference: Newcombe, Statistics in Medicine 17, 1998, method 10 (there from Wilson's intervals)
    """
    value = one.value - other.value
    low = value - sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    high = value + sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Estimate(value, max(-1.0, low), min(1.0, high))


def of_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate of several seeds: their mean, from the smallest lower to the largest upper end.

    Args:
        estimates: one a seed, at least one.
    """
    mean = sum(estimate.value for estimate in estimates) / len(estimates)
    return Estimate(mean, min(e.low for e in estimates), max(e.high for e in estimates))


def _plain(number: float) -> str:
    text = f"{number:.1f}"
    return text.removeprefix("-") if float(text) == 0 else text
