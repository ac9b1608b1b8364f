"""The one-run bound for Gaussian mechanisms: by how much a mu-GDP mechanism can help whoever guesses canaries.

m canaries are in by a fair coin each, and the auditor guesses for exactly r of them. Let p_i be the probability that i
guesses are right, F the mechanism's trade-off curve and B(x) = 1 - F(x) how far an event of probability x can grow when
one canary's coin is turned over; for mu-GDP B(x) = Phi(Phi^-1(x) + mu). Turning over the coin of a canary whose guess
is right makes it wrong and leaves all others as they are, so that averaged over coins and canaries

    sum_{i >= j} (i / m) p_i  <=  B( sum_{i >= j} ((r - i + 1) / m) p_{i-1} )        for each j.

With R_j = sum_{i >= j} (i / m) p_i and H_j = sum_{i >= j} ((r - i) / m) p_i this says H_{j-1} >= B^-1(R_j), while
R_{j-1} - R_j = (j - 1) / (r - j + 1) (H_{j-1} - H_j) and R_0 + H_0 = r / m. Suppose v guesses or more are right with
probability alpha. The least that all probabilities then add up to has all of alpha at exactly v (more right guesses
only demand more below); from R_v = alpha v / m and H_v = alpha (r - v) / m one recursion goes down to 0. If R_0 + H_0
exceeds r / m the curve is refuted: that many right guesses come with less than alpha.
tests/auditing/test_gaussian_dp.py compares it with the linear program over all p.

**The assumption.** What is refuted is mu-GDP for all mu below the bound. As epsilon it reads: of Gaussian mechanisms,
only those of this epsilon or more do what was seen. A mechanism whose curve is not Gaussian, such as randomized
response, may be (epsilon, delta)-DP for less. DP-SGD's and DP-FedAvg's curves approach Gaussian ones over many steps;
where formal and audited epsilon contradict one another by little, look at `approximate_dp` too, which assumes nothing.

Reference: Mahloujifar, Melis, Chaudhuri, "Auditing f-Differential Privacy in One Run", ICML 2025, arXiv:2410.22235,
theorem 9 and algorithm 3 with binary secrets and abstentions. Derived here again, for mu-GDP, whose curve is symmetric.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64
from scipy.special import ndtr, ndtri

from fedsec.auditing.approximate_dp import check_counts
from fedsec.auditing.rates import check_confidence
from fedsec.errors import InputError

LARGEST_MU = 16.0
"""Bounds end there: epsilon is some 200 then, and more says nothing more."""
_POINTS = 33
"""Values of mu that one pass tries together; the recursion is the same for all."""
_PASSES = 4
"""Passes, each within one interval of the one before: mu to 16 / 32^4."""


def is_refuted(
    mu: npt.ArrayLike, canaries: int, guesses: int, correct: int, significance: float
) -> Bool[np.ndarray, "curves"]:
    """Whether mu-GDP makes so many right guesses, or more, less likely than the significance.

    Args:
        mu: [curves]; not negative.
        canaries: m, each in by a fair coin of its own.
        guesses: r of them for which the auditor says `in` or `out`, fixed before.
        correct: v, how many of these guesses are right.
        significance: alpha, in (0, 1).

    Raises:
        InputError: numbers out of range.

    Reference: arXiv:2410.22235, algorithm 3.
    """
    check_counts(canaries, guesses, correct)
    check_confidence(1 - significance)
    curves = np.atleast_1d(np.asarray(mu, dtype=np.float64))
    if not (np.isfinite(curves) & (curves >= 0)).all():
        raise InputError(f"mu must be finite and not negative, got {curves[~(np.isfinite(curves) & (curves >= 0))][0]}")
    return _refuted(curves, canaries, guesses, correct, significance)


def gaussian_dp_bound(canaries: int, guesses: int, correct: int, confidence: float = 0.95) -> float:
    """The smallest mu at which mu-GDP is not refuted by so many right guesses; 0 if none is.

    `fedsec.auditing.epsilon_of_mu` makes an epsilon of it.

    Args:
        canaries: m, each in by a fair coin of its own.
        guesses: r, fixed before.
        correct: v, how many of these guesses are right.
        confidence: with which mu is at least the bound, in (0, 1).

    Raises:
        InputError: numbers out of range.
    """
    check_counts(canaries, guesses, correct)
    check_confidence(confidence)
    return lower_bound(int(canaries), int(guesses), int(correct), 1 - float(confidence))


@lru_cache(maxsize=4096)
def lower_bound(canaries: int, guesses: int, correct: int, significance: float) -> float:
    """As `gaussian_dp_bound`, for numbers that are known to be in range."""
    low, high = 0.0, LARGEST_MU
    for _ in range(_PASSES):
        curves = np.linspace(low, high, _POINTS)
        refuted = _refuted(curves, canaries, guesses, correct, significance)
        first = len(curves) if refuted.all() else int(np.argmin(refuted))
        if first == 0:
            return low
        low = float(curves[first - 1])
        high = float(curves[min(first, _POINTS - 1)])
    return low


def _refuted(
    mu: Float64[np.ndarray, "curves"], canaries: int, guesses: int, correct: int, significance: float
) -> Bool[np.ndarray, "curves"]:
    if not guesses:
        return np.zeros(len(mu), dtype=bool)
    right = np.full(len(mu), significance * correct / canaries)
    wrong = np.full(len(mu), significance * (guesses - correct) / canaries)
    for number in range(correct - 1, -1, -1):
        least = np.maximum(wrong, ndtr(ndtri(right) - mu))
        if np.array_equal(least, wrong):  # nothing more is demanded, here or below
            break
        right = np.minimum(right + number / (guesses - number) * (least - wrong), 1.0)
        wrong = least
    refuted: Bool[np.ndarray, "curves"] = right + wrong > guesses / canaries
    return refuted
