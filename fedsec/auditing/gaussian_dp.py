"""The one-run bound for Gaussian mechanisms: by how much a mu-GDP mechanism can help whoever guesses canaries.

Such a mechanism lets an event of probability x grow to B(x) = Phi(Phi^-1(x) + mu) at the most when one canary's coin is
turned over; `fedsec.auditing.trade_off` derives from that how many guesses can be right.

**The assumption.** What is refuted is mu-GDP for all mu below the bound. As epsilon it reads: of Gaussian mechanisms,
only those of this epsilon or more do what was seen. A mechanism whose curve is not Gaussian, such as randomized
response, may be (epsilon, delta)-DP for less. DP-SGD's and DP-FedAvg's curves approach Gaussian ones over many steps;
where formal and audited epsilon contradict one another by little, look at `approximate_dp` too, which assumes nothing.

Reference: Mahloujifar, Melis, Chaudhuri, "Auditing f-Differential Privacy in One Run", ICML 2025, arXiv:2410.22235.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64
from scipy.special import ndtr, ndtri

from fedsec.auditing.approximate_dp import check_counts
from fedsec.auditing.rates import check_confidence
from fedsec.auditing.trade_off import are_refuted, largest_refuted
from fedsec.errors import InputError

LARGEST_MU = 16.0
"""Bounds end there: epsilon is some 200 then, and more says nothing more."""


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
    return largest_refuted(lambda mu: _refuted(mu, canaries, guesses, correct, significance), LARGEST_MU)


def _refuted(
    mu: Float64[np.ndarray, "curves"], canaries: int, guesses: int, correct: int, significance: float
) -> Bool[np.ndarray, "curves"]:
    return are_refuted(lambda right: ndtr(ndtri(right) - mu), len(mu), canaries, guesses, correct, significance)
