"""Bounds of epsilon from two samples of scores: many runs with a canary, many without it.

If a test calls a run without the canary `in` with probability FPR, and one with it `out` with probability FNR, then
(epsilon, delta)-DP demands FPR + e^epsilon FNR >= 1 - delta and e^epsilon FPR + FNR >= 1 - delta. With upper bounds of
both rates, which hold together with the stated confidence,

    epsilon >= max( log((1 - delta - FNR) / FPR), log((1 - delta - FPR) / FNR) ),   mu >= Phi^-1(1 - FPR) - Phi^-1(FNR).

mu is that of a Gaussian curve, as in `fedsec.auditing.gaussian_dp`.

The samples must be independent: a score is that of one run of the mechanism. Scores of many canaries of *one* run are
not independent of one another, and belong into `fedsec.auditing.audit_one_run`.

References: Kairouz, Oh, Viswanath, ICML 2015, arXiv:1311.0776 (the region); Jagielski, Ullman, Oprea, NeurIPS 2020,
arXiv:2006.07709 and Nasr et al., IEEE S&P 2021, arXiv:2101.04535 (Clopper-Pearson bounds of it); Nasr et al., USENIX
Security 2023, arXiv:2302.07956 (mu-GDP).
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64
from scipy.special import betaincinv, ndtri

from fedsec.auditing.bound import EpsilonBound, remarks
from fedsec.auditing.canaries import smallest_count
from fedsec.auditing.gaussian_curve import LARGEST_MU, epsilon_of_mu
from fedsec.auditing.guesses import Direction, signs_of
from fedsec.auditing.membership import check_scores
from fedsec.auditing.rates import check_confidence, check_delta
from fedsec.errors import InputError

TwoSampleMethod = Literal["two_samples", "two_samples_gaussian"]
_METHODS: tuple[TwoSampleMethod, ...] = ("two_samples", "two_samples_gaussian")


def two_sample_bound(
    false_positives: int, nonmembers: int, false_negatives: int, members: int, delta: float, confidence: float = 0.95
) -> dict[TwoSampleMethod, EpsilonBound]:
    """Lower bounds of epsilon from how often a test, fixed before, was wrong.

    Args:
        false_positives: runs without the canary that were called `in`.
        nonmembers: runs without it.
        false_negatives: runs with the canary that were called `out`.
        members: runs with it.
        delta: of the guarantee that is tested, in [0, 1).
        confidence: with which epsilon is at least the bound, in (0, 1).

    Raises:
        InputError: numbers out of range.
    """
    check_confidence(confidence)
    check_delta(delta)
    for wrong, runs in ((false_positives, nonmembers), (false_negatives, members)):
        if not 0 <= wrong <= runs:
            raise InputError(f"a test cannot be wrong in {wrong} of {runs} runs")
    counts = [(false_positives, nonmembers, false_negatives, members)]
    return {method: _bound(method, counts, delta, confidence, 1, "explicit") for method in _METHODS}


def audit_two_samples(
    members: npt.ArrayLike,
    nonmembers: npt.ArrayLike,
    delta: float,
    confidence: float = 0.95,
    strategy: Literal["bonferroni", "split"] = "bonferroni",
    threshold: float | None = None,
    direction: Direction = "higher",
    seed: int = 0,
) -> dict[TwoSampleMethod, EpsilonBound]:
    """Lower bounds of epsilon from the scores of many independent runs.

    Args:
        members: [runs] scores of runs with the canary; higher says that it was there.
        nonmembers: [runs] scores of runs without it.
        delta: of the guarantee that is tested, in [0, 1).
        confidence: with which epsilon is at least the bound, in (0, 1).
        strategy: `bonferroni`: some ranks of the runs without the canary are the thresholds, fixed before, each at its
            share of the significance. `split`: one half of the runs chooses the threshold, the other half counts.
        threshold: chosen before the scores were seen; None for the strategy's.
        direction: `higher`, `lower` where low scores say `in`, or `both`, which is paid for as a choice.
        seed: of the split.

    Raises:
        InputError: scores that are not finite, too few runs for any bound, or numbers out of range.
    """
    check_confidence(confidence)
    check_delta(delta)
    inside, outside = check_scores(members, nonmembers)
    signs = signs_of(direction)
    if strategy not in ("bonferroni", "split"):
        raise InputError(f"strategy must be bonferroni or split, got {strategy!r}")
    if threshold is not None:
        if not math.isfinite(threshold):
            raise InputError(f"the threshold must be finite, got {threshold}")
        tests = [_at(sign * inside, sign * outside, sign * threshold) for sign in signs]
        return {method: _bound(method, tests, delta, confidence, len(tests), "explicit") for method in _METHODS}
    if strategy == "bonferroni":
        tests = [test for sign in signs for test in _by_rank(sign * inside, sign * outside)]
        return {method: _bound(method, tests, delta, confidence, len(tests), strategy) for method in _METHODS}
    chance = np.random.default_rng(seed)
    choosing_in, counted_in = _halves(inside, chance)
    choosing_out, counted_out = _halves(outside, chance)
    bounds = {}
    for method in _METHODS:
        sign, chosen = _choice(method, choosing_in, choosing_out, signs, delta, 1 - confidence)
        bounds[method] = _bound(
            method, [_at(sign * counted_in, sign * counted_out, chosen)], delta, confidence, 1, strategy
        )
    return bounds


class _Counts(NamedTuple):
    """How often tests were wrong."""

    false_positives: Int64[np.ndarray, "tests"]
    nonmembers: Int64[np.ndarray, "tests"]
    false_negatives: Int64[np.ndarray, "tests"]
    members: Int64[np.ndarray, "tests"]

    @classmethod
    def of(cls, tests: list[tuple[int, int, int, int]]) -> "_Counts":
        """Of tests one by one."""
        return cls(*np.array(tests, dtype=np.int64).T)


def _at(
    inside: Float64[np.ndarray, "members"], outside: Float64[np.ndarray, "nonmembers"], threshold: float
) -> tuple[int, int, int, int]:
    return (int((outside > threshold).sum()), len(outside), int((inside <= threshold).sum()), len(inside))


def _by_rank(
    inside: Float64[np.ndarray, "members"], outside: Float64[np.ndarray, "nonmembers"]
) -> list[tuple[int, int, int, int]]:
    """Tests at thresholds that are fixed ranks of the runs without the canary.

    The true FPR above the k-th largest of n scores is Beta(k, n - k + 1), the very distribution by which Clopper and
    Pearson bound a rate of k - 1 in n; ties only make it smaller. Given these runs, those with the canary are
    independent.
    """
    falling = np.sort(outside)[::-1]
    n = len(falling)
    ranks = sorted({1, *(max(1, n >> halvings) for halvings in range(1, 6)), *(n - (n >> h) for h in range(2, 6)), n})
    return [(rank - 1, n, int((inside <= falling[rank - 1]).sum()), len(inside)) for rank in ranks if 1 <= rank <= n]


def _halves(
    scores: Float64[np.ndarray, "runs"], chance: np.random.Generator
) -> tuple[Float64[np.ndarray, "half"], Float64[np.ndarray, "other"]]:
    if len(scores) < 2:
        raise InputError("a split needs two runs with the canary and two without it at the least")
    order = chance.permutation(len(scores))
    return scores[order[: len(order) // 2]], scores[order[len(order) // 2 :]]


def _choice(
    method: TwoSampleMethod,
    inside: Float64[np.ndarray, "members"],
    outside: Float64[np.ndarray, "nonmembers"],
    signs: tuple[int, ...],
    delta: float,
    significance: float,
) -> tuple[int, float]:
    """The sign and the threshold, in signed scores, at which the choosing runs show most."""
    values = np.unique(np.concatenate([inside, outside]))
    best = (-1.0, signs[0], 0.0)
    for sign in signs:
        rising = np.sort(sign * values)
        thresholds = np.r_[(rising[1:] + rising[:-1]) / 2, rising[-1]]
        negatives = np.asarray(np.searchsorted(np.sort(sign * inside), thresholds, side="right"))
        passed = np.asarray(np.searchsorted(np.sort(sign * outside), thresholds, side="right"))
        counts = _Counts(len(outside) - passed, np.array(len(outside)), negatives, np.array(len(inside)))
        strengths = _strengths(method, counts, delta, significance)
        strongest = int(np.argmax(strengths))
        best = max(
            best, (float(strengths[strongest]), sign, float(thresholds[strongest])), key=lambda option: option[0]
        )
    return best[1], best[2]


def _strengths(
    method: TwoSampleMethod, counts: _Counts, delta: float, significance: float
) -> Float64[np.ndarray, "tests"]:
    """The bounds on the method's own scale, epsilon or mu; half of the significance for each of the two rates."""
    fpr = _upper_rates(counts.false_positives, counts.nonmembers, significance / 2)
    fnr = _upper_rates(counts.false_negatives, counts.members, significance / 2)
    if method == "two_samples_gaussian":
        mu: Float64[np.ndarray, "tests"] = np.clip(ndtri(1 - fpr) - ndtri(fnr), 0.0, LARGEST_MU)
        return mu  # a rate of 1 gave minus infinity
    either = np.maximum((1 - delta - fnr) / fpr, (1 - delta - fpr) / fnr)
    epsilon: Float64[np.ndarray, "tests"] = np.log(np.maximum(either, 1.0))
    return epsilon


def _upper_rates(
    wrong: Int64[np.ndarray, "tests"], trials: Int64[np.ndarray, "tests"], significance: float
) -> Float64[np.ndarray, "tests"]:
    """Clopper and Pearson's one-sided bounds, as `fedsec.auditing.clopper_pearson` has them one by one."""
    return np.where(wrong < trials, betaincinv(wrong + 1, np.maximum(trials - wrong, 1), 1 - significance), 1.0)


def _bound(
    method: TwoSampleMethod,
    tests: list[tuple[int, int, int, int]],
    delta: float,
    confidence: float,
    choices: int,
    strategy: str,
) -> EpsilonBound:
    significance = (1 - confidence) / choices
    counts = _Counts.of(tests)
    strengths = _strengths(method, counts, delta, significance)
    never = np.zeros_like(counts.members)
    right = counts._replace(false_positives=never, false_negatives=never)
    flawless = float(_strengths(method, right, delta, significance).max())
    best = int(np.argmax(strengths))
    strength = float(strengths[best])
    false_positives, nonmembers, false_negatives, members = tests[best]
    if not _strengths(method, right, 0.0, significance).any():
        raise InputError(
            f"{members} runs with the canary and {nonmembers} without it can show nothing at a confidence "
            f"of {confidence:.4g}, even if no test errs; expected {smallest_count(significance / 2)} of each"
        )
    gaussian = method == "two_samples_gaussian"
    epsilon, most = (epsilon_of_mu(value, delta) if gaussian else value for value in (strength, flawless))
    runs = members + nonmembers
    called_in = members - false_negatives + false_positives
    return EpsilonBound(
        epsilon_lower=epsilon,
        confidence=confidence,
        delta=delta,
        method=method,
        canaries=runs,
        guesses=runs,
        correct=runs - false_positives - false_negatives,
        guessed_in=called_in,
        guessed_out=runs - called_in,
        ceiling=most,
        choices=choices,
        strategy=strategy,
        mu_lower=strength if gaussian else None,
        note=remarks(epsilon, most, runs, delta),
    )
