"""How many guesses a mechanism of a known trade-off curve can have right: one recursion for every curve.

m canaries are in by a fair coin each, and the auditor guesses for exactly r of them. Let p_i be the probability that i
guesses are right, F the mechanism's trade-off curve, symmetric and convex, and B(x) = 1 - F(x) how far an event of
probability x can grow when one canary's coin is turned over. Turning over the coin of a canary whose guess is right
makes it wrong and leaves all others as they are, so that averaged over coins and canaries

    sum_{i >= j} (i / m) p_i  <=  B( sum_{i >= j} ((r - i + 1) / m) p_{i-1} )        for each j.

With R_j = sum_{i >= j} (i / m) p_i and H_j = sum_{i >= j} ((r - i) / m) p_i this says H_{j-1} >= B^-1(R_j), while
R_{j-1} - R_j = (j - 1) / (r - j + 1) (H_{j-1} - H_j) and R_0 + H_0 = r / m. Suppose v guesses or more are right with
probability alpha. The least that all probabilities then add up to has all of alpha at exactly v (more right guesses
only demand more below); from R_v = alpha v / m and H_v = alpha (r - v) / m one recursion goes down to 0. If R_0 + H_0
exceeds r / m the curve is refuted: that many right guesses come with less than alpha. tests/auditing/test_trade_off.py
compares it with the linear program over all p.

Reference: Mahloujifar, Melis, Chaudhuri, "Auditing f-Differential Privacy in One Run", ICML 2025, arXiv:2410.22235,
theorem 9 and algorithm 3 with binary secrets and abstentions. Derived here again, for symmetric curves.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64

_POINTS = 33
"""Values of a parameter that one pass tries together; the recursion is the same for all."""
_PASSES = 4
"""Passes, each within one interval of the one before: to 1 / 32^4 of the range."""

Curves = Callable[[Float64[np.ndarray, "curves"]], Float64[np.ndarray, "curves"]]
"""B^-1 of some curves: from the probability that an event grows to, one a curve, the least that it grew from."""


def are_refuted(
    least: Curves, number: int, canaries: int, guesses: int, correct: int, significance: float
) -> Bool[np.ndarray, "curves"]:
    """Whether each curve makes so many right guesses, or more, less likely than the significance.

    Args:
        least: B^-1 of the curves.
        number: of curves.
        canaries: m.
        guesses: r, fixed before.
        correct: v.
        significance: alpha.
    """
    if not guesses:
        return np.zeros(number, dtype=bool)
    right = np.full(number, significance * correct / canaries)
    wrong = np.full(number, significance * (guesses - correct) / canaries)
    for below in range(correct - 1, -1, -1):
        demanded = np.maximum(wrong, least(right))
        if np.array_equal(demanded, wrong):  # nothing more is demanded, here or below
            break
        right = np.minimum(right + below / (guesses - below) * (demanded - wrong), 1.0)
        wrong = demanded
    refuted: Bool[np.ndarray, "curves"] = right + wrong > guesses / canaries
    return refuted


def largest_refuted(
    refuted: Callable[[Float64[np.ndarray, "curves"]], Bool[np.ndarray, "curves"]], largest: float
) -> float:
    """The largest parameter below which all curves are refuted; it errs towards less.

    Args:
        refuted: of parameters, rising ones, whether each one's curve is refuted.
        largest: at which the search ends.
    """
    low, high = 0.0, largest
    for _ in range(_PASSES):
        parameters = np.linspace(low, high, _POINTS)
        verdicts = refuted(parameters)
        first = _POINTS if verdicts.all() else int(np.argmin(verdicts))
        if first == 0:
            return low
        low, high = float(parameters[first - 1]), float(parameters[min(first, _POINTS - 1)])
    return low
