"""How well scores tell members from non-members: TPR at a small FPR, AUC, the ROC curve; each with its interval.

The interesting rates are the small ones: at an FPR of 0.1% an attacker accuses one innocent of a thousand, and n
non-members cannot say anything of an FPR below 1 / n. Such a rate is reported as unresolved, never as 0.

References: Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022, arXiv:2112.03570 (why
the small FPRs); DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988), with Sun & Xu, IEEE SPL 21 (2014) for its
computation by midranks; Newcombe, Statistics in Medicine 25 (2006), "Confidence intervals for an effect size measure
based on the Mann-Whitney statistic, part 2", method 5.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from fedsec.auditing.canaries import as_scores
from fedsec.auditing.rates import Rate, check_confidence, clopper_pearson
from fedsec.errors import InputError

SMALL_RATES = (0.001, 0.01)
"""The FPRs at which membership inferences are usually compared."""


@dataclass(frozen=True)
class RateAtFpr:
    """The TPR at the threshold that the non-members' scores set for an FPR.

    Attributes:
        wanted_fpr: the FPR that was asked for.
        threshold: who scores above it is called a member; NaN where the FPR is unresolved.
        tpr: of the members, with the interval of this threshold's TPR.
        fpr: of the non-members, with the interval of this threshold's true FPR, which need not hold `wanted_fpr`.
        is_resolved: whether there are non-members enough to count an FPR so small.
        note: what a reader must know; empty if nothing.
    """

    wanted_fpr: float
    threshold: float
    tpr: Rate
    fpr: Rate
    is_resolved: bool
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """By name, fit for JSON: None for NaN."""
        values = asdict(self) | {"tpr": self.tpr.as_dict(), "fpr": self.fpr.as_dict()}
        return values | {"threshold": self.threshold if math.isfinite(self.threshold) else None}


@dataclass(frozen=True)
class Auc:
    """The probability that a member scores above a non-member, ties counted half.

    Attributes:
        value: 0.5 is chance.
        low: the interval's lower end.
        high: its upper end.
        members: how many.
        nonmembers: how many.
        confidence: of the interval.
    """

    value: float
    low: float
    high: float
    members: int
    nonmembers: int
    confidence: float

    def as_dict(self) -> dict[str, Any]:
        """By name, fit for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """As people write it: `0.625 [0.516, 0.683]`."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Roc(NamedTuple):
    """The curve's corners, from (0, 0) to (1, 1).

    Attributes:
        fpr: [points], not falling.
        tpr: [points], not falling.
        thresholds: [points]; who scores at least that is called a member. Infinite for the first.
    """

    fpr: Float64[np.ndarray, "points"]
    tpr: Float64[np.ndarray, "points"]
    thresholds: Float64[np.ndarray, "points"]


@dataclass(frozen=True)
class MembershipRates:
    """All of it together.

    Attributes:
        auc: with its interval.
        tpr_at: by the FPR that was asked for.
    """

    auc: Auc
    tpr_at: dict[float, RateAtFpr]

    def as_dict(self) -> dict[str, Any]:
        """By name, fit for JSON; FPRs are keys as text."""
        return {"auc": self.auc.as_dict(), "tpr_at": {f"{fpr:g}": rate.as_dict() for fpr, rate in self.tpr_at.items()}}


def membership_rates(
    members: npt.ArrayLike,
    nonmembers: npt.ArrayLike,
    fprs: Sequence[float] = SMALL_RATES,
    confidence: float = 0.95,
) -> MembershipRates:
    """AUC, and TPR at small FPRs, with intervals.

    Args:
        members: [members] scores; higher says that the example was in the training data.
        nonmembers: [non-members] scores of examples that were not, of the same distribution.
        fprs: at which the TPR is asked for, each in (0, 1).
        confidence: of every interval by itself, in (0, 1).

    Raises:
        InputError: no scores, scores that are not finite, or a number out of range.
    """
    return MembershipRates(
        auc(members, nonmembers, confidence),
        {float(fpr): tpr_at_fpr(members, nonmembers, fpr, confidence) for fpr in fprs},
    )


def tpr_at_fpr(members: npt.ArrayLike, nonmembers: npt.ArrayLike, fpr: float, confidence: float = 0.95) -> RateAtFpr:
    """The TPR at the lowest threshold at which no larger share of the non-members scores above it.

    Args:
        members: [members] scores; higher says that the example was in the training data.
        nonmembers: [non-members] scores.
        fpr: that is asked for, in (0, 1).
        confidence: of both intervals, in (0, 1).

    Returns:
        The TPR, NaN with the interval [0, 1] where there are fewer than 1 / fpr non-members.

    Raises:
        InputError: no scores, scores that are not finite, or a number out of range.
    """
    inside, outside = check_scores(members, nonmembers)
    check_confidence(confidence)
    if not 0 < fpr < 1:
        raise InputError(f"the FPR must lie in (0, 1), got {fpr}")
    allowed = math.floor(fpr * len(outside) * (1 + 1e-12))  # 0.001 x 3,000 is less than 3 in floating point
    if not allowed:
        note = (
            f"unresolved: {len(outside)} non-members cannot count an FPR of {fpr:g}; expected "
            f"{math.ceil(1 / fpr - 1e-9):,} or more"
        )
        nothing = clopper_pearson(0, 0, confidence)
        return RateAtFpr(fpr, math.nan, nothing, nothing, is_resolved=False, note=note)
    threshold = float(np.sort(outside)[len(outside) - allowed - 1])
    above = int((inside > threshold).sum())
    false = int((outside > threshold).sum())
    tied = (
        f"only {false} of {allowed} allowed non-members score above the threshold: others tie"
        if false < allowed
        else ""
    )
    return RateAtFpr(
        fpr,
        threshold,
        clopper_pearson(above, len(inside), confidence),
        clopper_pearson(false, len(outside), confidence),
        is_resolved=True,
        note=tied,
    )


def auc(members: npt.ArrayLike, nonmembers: npt.ArrayLike, confidence: float = 0.95) -> Auc:
    """The area under the ROC curve, with DeLong's interval on the logit scale.

    Where no pair, or every pair, is in the wrong order DeLong's variance is 0 and his interval a point; Newcombe's
    stands in there, whose variance is that of the true area. Where all scores are equal, or a sample has one, it is [0,
    1].

    Args:
        members: [members] scores; higher says that the example was in the training data.
        nonmembers: [non-members] scores.
        confidence: of the interval, in (0, 1).

    Raises:
        InputError: no scores, scores that are not finite, or a confidence out of range.
    """
    inside, outside = check_scores(members, nonmembers)
    check_confidence(confidence)
    m, n = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    # The share of the other sample that each score beats, ties counted half.
    beaten = (ranks[:m] - rankdata(inside)) / n
    beating = 1 - (ranks[m:] - rankdata(outside)) / m
    area = float(beaten.mean())
    variance = _variance(beaten) + _variance(beating)
    quantile = float(-ndtri((1 - confidence) / 2))
    if min(m, n) < 2 or (variance == 0 and 0 < area < 1):
        low, high = 0.0, 1.0  # nothing is known of how much scores vary
    elif 0 < area < 1:
        width = quantile * math.sqrt(variance) / (area * (1 - area))
        low, high = (float(expit(logit(area) + sign * width)) for sign in (-1, 1))
    else:
        low, high = sorted((area, abs(area - _shortfall(m, n, quantile))))
    return Auc(area, low, high, m, n, confidence)


def roc(members: npt.ArrayLike, nonmembers: npt.ArrayLike) -> Roc:
    """The ROC curve of the scores, a point for each value that comes.

    Args:
        members: [members] scores; higher says that the example was in the training data.
        nonmembers: [non-members] scores.

    Raises:
        InputError: no scores, or scores that are not finite.
    """
    inside, outside = check_scores(members, nonmembers)
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    fpr = 1 - np.searchsorted(np.sort(outside), thresholds) / len(outside)
    tpr = 1 - np.searchsorted(np.sort(inside), thresholds) / len(inside)
    return Roc(np.r_[0.0, fpr], np.r_[0.0, tpr], np.r_[math.inf, thresholds])


def check_scores(
    members: npt.ArrayLike, nonmembers: npt.ArrayLike
) -> tuple[Float64[np.ndarray, "members"], Float64[np.ndarray, "nonmembers"]]:
    """Two samples of scores as arrays.

    Raises:
        InputError: not lists of numbers, none, or some that are not finite.
    """
    samples = []
    for noun, scores in (("member", members), ("non-member", nonmembers)):
        values = as_scores(scores, noun)
        if values.ndim != 1 or not values.size:
            raise InputError(f"expected a list of scores, one a {noun}, got shape {list(values.shape)}")
        samples.append(values)
    return samples[0], samples[1]


def _variance(shares: Float64[np.ndarray, "scores"]) -> float:
    return float(shares.var(ddof=1)) / len(shares) if len(shares) > 1 else 0.0


def _shortfall(members: int, nonmembers: int, quantile: float) -> float:
    """How far below 1 the true area may lie if the one seen is 1: so many of the true one's standard deviations."""

    def excess(missing: float) -> float:
        true = 1 - missing
        spread = 1 + ((members + nonmembers) / 2 - 1) * (missing / (1 + missing) + true / (1 + true))
        return missing - quantile**2 * true * spread / (members * nonmembers)

    return float(brentq(excess, 0.0, 1.0))
