"""The one-run bound for (epsilon, delta)-DP, without any assumption on the mechanism.

m canaries are in the training data by a fair coin each; the auditor guesses for r of them and is right v times. If the
mechanism is (epsilon, delta)-DP for each canary, then with f(v) = P[Binomial(r, e^epsilon / (1 + e^epsilon)) >= v]

    P[right >= v]  <=  f(v) + 2 m delta max_{i = 1..m} (f(v - i) - f(v)) / i.

For i > v the first f is 1 and the quotient falls with i, so that i <= v suffices. For delta 0 this is exact: randomized
response does it. For a larger delta its second term soon allows everything, since it grows with m. The recursion of
`fedsec.auditing.trade_off`, with the curve that (epsilon, delta)-DP is,

    B(x) = min(1, e^epsilon x + delta, 1 - e^-epsilon (1 - delta - x)),

bounds the same probability, and is much tighter there: 150 right guesses of 150 over 200 canaries show 3.4 in place of
1.4 at delta 0.001 (and a confidence of 99%). The probability is below both, so an epsilon that either refutes is
refuted, at no cost in confidence. The bound is the smallest epsilon that neither refutes.

It is loose for Gaussian noise (`fedsec.auditing.gaussian_dp` is the tighter one): its worst case answers each canary's
coin truthfully or not, which reveals much more in the bulk than noise of the same epsilon.

Reference: Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, arXiv:2305.08846,
theorem 5.2; Mahloujifar, Melis, Chaudhuri, ICML 2025, arXiv:2410.22235. The number of guesses must not depend on the
outcome; we fix it before. To take the better of both theorems is ours.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import bdtrc, expit

from fedsec.auditing.rates import check_confidence, check_delta
from fedsec.auditing.trade_off import are_refuted, largest_refuted
from fedsec.errors import InputError

PRECISION = 1e-6
"""How far below the true crossing a bound may lie; never above it."""
LARGEST_EPSILON = 20.0
"""Beyond what so many right guesses show as anybody makes: about log of the guesses."""
_STEP = 0.25
"""Between epsilons that are looked at for the first crossing."""


def approximate_dp_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The probability with which an (epsilon, delta)-DP mechanism has so many guesses right, or more: Steinke's bound.

    Args:
        canaries: m, each in by a fair coin of its own.
        guesses: r of them for which the auditor says `in` or `out`.
        correct: v, how many of these guesses are right.
        epsilon: of the guarantee, not negative.
        delta: of the guarantee, in [0, 1).

    Raises:
        InputError: numbers out of range.

    Reference: arXiv:2305.08846, theorem 5.2.
    """
    check_counts(canaries, guesses, correct)
    check_delta(delta)
    if not epsilon >= 0:
        raise InputError(f"epsilon must not be negative, got {epsilon}")
    return _p_value(canaries, guesses, correct, epsilon, delta)


def approximate_dp_bound(canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The smallest epsilon at which (epsilon, delta)-DP is not refuted by so many right guesses; 0 if none is.

    Args:
        canaries: m, each in by a fair coin of its own.
        guesses: r, fixed before.
        correct: v, how many of these guesses are right.
        delta: of the guarantee, in [0, 1).
        confidence: with which epsilon is at least the bound, in (0, 1).

    Raises:
        InputError: numbers out of range.
    """
    check_counts(canaries, guesses, correct)
    check_delta(delta)
    check_confidence(confidence)
    return lower_bound(int(canaries), int(guesses), int(correct), float(delta), 1 - float(confidence))


@lru_cache(maxsize=4096)
def lower_bound(canaries: int, guesses: int, correct: int, delta: float, significance: float) -> float:
    """As `approximate_dp_bound`, for numbers that are known to be in range."""
    by_coins = _bound_by_coins(canaries, guesses, correct, delta, significance)
    if not delta:
        return by_coins  # exact

    def refuted(epsilon: Float64[np.ndarray, "curves"]) -> Bool[np.ndarray, "curves"]:
        growth = np.exp(epsilon)

        def least(right: Float64[np.ndarray, "curves"]) -> Float64[np.ndarray, "curves"]:
            below: Float64[np.ndarray, "curves"] = np.maximum(
                (right - delta) / growth, 1 - delta - growth * (1 - right)
            )
            return below

        return are_refuted(least, len(epsilon), canaries, guesses, correct, significance)

    return max(by_coins, largest_refuted(refuted, LARGEST_EPSILON))


def _bound_by_coins(canaries: int, guesses: int, correct: int, delta: float, significance: float) -> float:
    """By the theorem of Steinke et al."""

    def refuted(epsilon: float) -> bool:
        return _p_value(canaries, guesses, correct, epsilon, delta) <= significance

    # With 2 m delta > 1 the p-value need not rise everywhere: the first crossing is looked for from below.
    low, high = 0.0, _STEP
    if not refuted(low):
        return 0.0
    while refuted(high):
        low, high = high, high + _STEP
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def check_counts(canaries: int, guesses: int, correct: int) -> None:
    """Refuse counts that cannot be.

    Raises:
        InputError: not 0 <= correct <= guesses <= canaries.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise InputError(
            "an audit has no more right guesses than guesses, and no more guesses than canaries; got "
            f"{correct} right of {guesses} guesses over {canaries} canaries"
        )


def _p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    if not correct:
        return 1.0
    accuracy = float(expit(epsilon))
    if accuracy >= 1:  # beyond float64's reach: a guess that is always right refutes nothing
        return 1.0
    by_chance = float(bdtrc(correct - 1, guesses, accuracy))
    if not delta:
        return by_chance
    fewer = np.arange(1, correct + 1)
    gains = (_tail(correct - fewer, guesses, accuracy) - by_chance) / fewer
    return min(1.0, by_chance + 2 * canaries * delta * float(gains.max()))


def _tail(numbers: np.ndarray, guesses: int, accuracy: float) -> np.ndarray:
    return np.where(numbers > 0, bdtrc(np.maximum(numbers - 1, 0), guesses, accuracy), 1.0)
