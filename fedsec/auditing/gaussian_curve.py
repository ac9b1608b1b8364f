"""The trade-off curve of the Gaussian mechanism: mu-GDP, and the epsilon it has at a delta.

A mechanism is mu-GDP if telling any two neighboring inputs apart is at least as hard as telling N(0, 1) from N(mu, 1).
It is then (epsilon, delta)-DP exactly where

    delta >= Phi(-epsilon / mu + mu / 2) - exp(epsilon) Phi(-epsilon / mu - mu / 2).

Reference: Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 84 (2022), arXiv:1905.02383, corollary 2.13.
"""

import math
from functools import lru_cache

from scipy.optimize import brentq
from scipy.special import log_ndtr

from fedsec.auditing.rates import check_delta
from fedsec.errors import InputError

LARGEST_MU = 1e3
"""Above it an epsilon passes 500,000, and no number means anything."""


def delta_of_mu(mu: float, epsilon: float) -> float:
    """The smallest delta at which mu-GDP implies (epsilon, delta)-DP.

    Args:
        mu: of the curve, not negative.
        epsilon: not negative.
    """
    _check(mu)
    return math.exp(_log_delta(mu, epsilon)) if mu else 0.0


@lru_cache(maxsize=4096)
def epsilon_of_mu(mu: float, delta: float) -> float:
    """The smallest epsilon at which mu-GDP implies (epsilon, delta)-DP; infinite for delta 0, but for mu 0.

    Args:
        mu: of the curve, not negative.
        delta: in [0, 1).

    Raises:
        InputError: a number out of range.
    """
    _check(mu)
    check_delta(delta)
    if not mu:
        return 0.0
    if not delta:
        return math.inf
    wanted = math.log(delta)
    if _log_delta(mu, 0.0) <= wanted:
        return 0.0
    # Beyond mu^2 / 2 + mu z the first term alone, an upper bound, is below delta for z its quantile; 40 is beyond any.
    return float(brentq(lambda epsilon: _log_delta(mu, epsilon) - wanted, 0.0, mu * mu / 2 + 40 * mu, xtol=1e-10))


@lru_cache(maxsize=4096)
def mu_of_epsilon(epsilon: float, delta: float) -> float:
    """The largest mu at which mu-GDP implies (epsilon, delta)-DP.

    Args:
        epsilon: not negative.
        delta: in (0, 1).

    Raises:
        InputError: a number out of range.
    """
    if not (math.isfinite(epsilon) and epsilon >= 0 and 0 < delta < 1):
        raise InputError(f"needs a finite epsilon that is not negative, and delta in (0, 1), got {epsilon} and {delta}")
    wanted = math.log(delta)
    return float(brentq(lambda mu: _log_delta(mu, epsilon) - wanted, 1e-9, LARGEST_MU, xtol=1e-12))


def _log_delta(mu: float, epsilon: float) -> float:
    # By logarithms: the two terms cancel where delta is small.
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return first + math.log(-math.expm1(second - first)) if second < first else -math.inf


def _check(mu: float) -> None:
    if not 0 <= mu <= LARGEST_MU:
        raise InputError(f"mu must lie in [0, {LARGEST_MU:.0f}], got {mu}")
