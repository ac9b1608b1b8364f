"""The one-shot estimate of user-level epsilon: cosines of random canary clients with what was released.

Canary clients send random directions of the length of the clipping bound. The cosine of a direction that nobody sent
with the released model (or aggregate) is N(0, 1 / d) in d dimensions; those of the canaries are fitted by N(mean,
std^2). The estimate is the epsilon at which these two normal distributions are (epsilon, delta)-indistinguishable.

**It is an estimate and no bound.** It takes the fitted normal distributions for the truth and errs upwards: a sample's
mean and spread never are exactly those of the null, so that a hundred canaries that nobody sent have a median of 1.5 at
delta 1e-6 (docs/audit.md). Compare it with `null_epsilon`. A lower bound from the same cosines takes canaries that are
in by a fair coin each: `fedsec.auditing.audit_one_run`.

Reference: Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar, "One-shot Empirical Privacy Estimation for Federated
Learning", ICLR 2024, arXiv:2302.03098, algorithms 1 and 2. The interval over canaries is ours.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64
from scipy.optimize import brentq
from scipy.special import ndtr

from fedsec.auditing.canaries import as_scores
from fedsec.auditing.rates import check_confidence
from fedsec.errors import InputError

LARGEST_EPSILON = 500.0
"""Above it an estimate is infinite."""
_RESAMPLES = 200
_EQUAL = 1e-9
"""Relative difference of two spreads below which they are one."""


@dataclass(frozen=True)
class OneShotEstimate:
    """What epsilon the canaries' cosines look like; no bound.

    Attributes:
        epsilon: the estimate; infinite where the canaries stand out by more than any noise explains.
        low: lower end of its interval over canaries.
        high: upper end.
        confidence: of the interval.
        null_epsilon: the same estimate for canaries that nobody sent; None where there are none.
        delta: of the guarantee.
        mean: of the cosines, in standard deviations of a direction that nobody sent; 0 is no trace.
        std: of the cosines, in the same; 1 is no trace.
        canaries: how many were sent.
        dimension: of the parameters.
        note: what a reader must know.
    """

    epsilon: float
    low: float
    high: float
    confidence: float
    null_epsilon: float | None
    delta: float
    mean: float
    std: float
    canaries: int
    dimension: int
    note: str = "an estimate, no bound: it takes the cosines for normal, and errs upwards with few canaries"

    def as_dict(self) -> dict[str, Any]:
        """By name, fit for JSON: None for what is infinite."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


def one_shot_estimate(
    cosines: npt.ArrayLike,
    dimension: int,
    delta: float,
    unseen: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> OneShotEstimate:
    """Estimate epsilon from the cosines of canary clients that took part.

    Args:
        cosines: [canaries] of each canary's direction with what was released, in [-1, 1].
        dimension: d, how many parameters there are.
        delta: of the guarantee, in (0, 1).
        unseen: [others] cosines of directions that nobody sent, for the null.
        confidence: of the interval over canaries, in (0, 1).
        seed: of the interval's resampling.

    Raises:
        InputError: fewer than two canaries, or numbers out of range.

    Reference: arXiv:2302.03098, algorithm 1.
    """
    check_confidence(confidence)
    if not 0 < delta < 1:
        raise InputError(f"delta must lie in (0, 1), got {delta}")
    if dimension < 1:
        raise InputError(f"the dimension must be 1 or more, got {dimension}")
    scaled = _scaled(cosines, dimension)
    chance = np.random.default_rng(seed)
    resamples = scaled[chance.integers(len(scaled), size=(_RESAMPLES, len(scaled)))]
    estimates = np.array([_estimate(resample, delta) for resample in resamples])
    ends = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = (float(np.quantile(estimates, end, method="nearest")) for end in ends)
    return OneShotEstimate(
        epsilon=_estimate(scaled, delta),
        low=low,
        high=high,
        confidence=confidence,
        null_epsilon=None if unseen is None else _estimate(_scaled(unseen, dimension), delta),
        delta=delta,
        mean=float(scaled.mean()),
        std=float(scaled.std(ddof=1)),
        canaries=len(scaled),
        dimension=dimension,
    )


def epsilon_between_normals(mean: float, std: float, delta: float) -> float:
    """The smallest epsilon at which N(mean, std^2) and N(0, 1) are (epsilon, delta)-indistinguishable.

    Args:
        mean: of the first.
        std: of the first, positive.
        delta: in (0, 1).
    """

    def excess(epsilon: float) -> float:
        first = _divergence(mean, std, epsilon)
        second = _divergence(-mean / std, 1 / std, epsilon)  # the same two, in units of the first
        return max(first, second) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > LARGEST_EPSILON:
            return math.inf
    return float(brentq(excess, 0.0, high, xtol=1e-9))


def _divergence(mean: float, std: float, epsilon: float) -> float:
    """P[likelier by more than e^epsilon] under N(mean, std^2), minus e^epsilon times the same under N(0, 1)."""
    # log of the likelihood ratio minus epsilon: square x^2 + slope x + constant.
    square = (1 - std**-2) / 2
    slope = mean / std**2
    constant = -((mean / std) ** 2) / 2 - math.log(std) - epsilon
    if abs(square) < _EQUAL:
        if not slope:
            return 0.0
        inside = [(-constant / slope, math.inf)] if slope > 0 else [(-math.inf, -constant / slope)]
    else:
        root = slope**2 - 4 * square * constant
        if root <= 0:
            inside = [(-math.inf, math.inf)] if square > 0 else []
        else:
            ends = sorted((-slope + sign * math.sqrt(root)) / (2 * square) for sign in (-1, 1))
            outer = [(-math.inf, ends[0]), (ends[1], math.inf)]
            inside = outer if square > 0 else [(ends[0], ends[1])]
    ratio = math.exp(epsilon)
    return sum(_mass((low - mean) / std, (high - mean) / std) - ratio * _mass(low, high) for low, high in inside)


def _mass(low: float, high: float) -> float:
    """Of N(0, 1) between two ends, by the tail in which it does not cancel."""
    return float(ndtr(-low) - ndtr(-high)) if low > 0 else float(ndtr(high) - ndtr(low))


def _estimate(scaled: Float64[np.ndarray, "canaries"], delta: float) -> float:
    std = float(scaled.std(ddof=1))
    return epsilon_between_normals(float(scaled.mean()), std, delta) if std > 0 else math.inf


def _scaled(cosines: npt.ArrayLike, dimension: int) -> Float64[np.ndarray, "canaries"]:
    """Cosines in standard deviations of a random direction's."""
    values = as_scores(cosines, "canary")
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"expected the cosines of two canaries at the least, got shape {list(values.shape)}")
    if np.abs(values).max() > 1 + 1e-5:
        raise InputError(f"cosines must lie in [-1, 1], got {values[np.abs(values).argmax()]}")
    return values * math.sqrt(dimension)
