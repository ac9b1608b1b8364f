"""An audit in one training run: canaries in by a fair coin each, scores of all, lower bounds of epsilon.

Reference: Steinke, Nasr, Jagielski, NeurIPS 2023, arXiv:2305.08846, algorithm 1; Mahloujifar, Melis, Chaudhuri, ICML
2025, arXiv:2410.22235.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from fedsec.auditing import approximate_dp, gaussian_dp
from fedsec.auditing.bound import EpsilonBound, remarks
from fedsec.auditing.canaries import check_canaries, smallest_count
from fedsec.auditing.gaussian_curve import epsilon_of_mu
from fedsec.auditing.guesses import (
    Bonferroni,
    Direction,
    Explicit,
    Guesses,
    SplitCanaries,
    Strategy,
    check_grid,
    count_correct,
    guess_grid,
    ranking,
    signs_of,
)
from fedsec.auditing.rates import check_confidence, check_delta
from fedsec.errors import InputError

OneRunMethod = Literal["approximate_dp", "gaussian_dp"]


def audit_one_run(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    delta: float,
    confidence: float = 0.95,
    strategy: Strategy | None = None,
    direction: Direction = "higher",
    choices: int = 1,
    seed: int = 0,
) -> dict[OneRunMethod, EpsilonBound]:
    """Lower bounds of epsilon from the scores of canaries of one training run, by both methods.

    Each of the two bounds holds with the stated confidence by itself. They differ in what they assume, see
    `EpsilonBound.method`; which of them to believe is decided before, not by which is larger.

    Args:
        scores: [canaries]; higher says that the canary was in the training data. Any monotone scale.
        included: [canaries]; whether each was in, by a fair coin of its own.
        delta: of the guarantee that is tested, in [0, 1); for `gaussian_dp` positive, or its epsilon is infinite.
        confidence: with which epsilon is at least the bound, in (0, 1).
        strategy: how the number of guesses is chosen; None for `Bonferroni()`.
        direction: `higher`, `lower` where low scores say `in`, or `both`, which is paid for as a choice.
        choices: from how many audits, this one included, the caller takes the best; paid for here. Two kinds of scores
            of the same canaries, of which the larger bound is reported, are 2.
        seed: of how ties are broken.

    Returns:
        The bound by method.

    Raises:
        InputError: scores or inclusions that no audit can be made of, fewer canaries than any bound can use, or a
            number out of range.

    Example:
        bounds = audit_one_run(-losses, included, delta=1e-5)
        bounds["gaussian_dp"].epsilon_lower
    """
    significance, signs = _checked(delta, confidence, direction, choices)
    values, inside = check_canaries(scores, included)
    audit = _Audit(values, inside, delta, significance, confidence, choices, signs, seed)
    return {method: audit.bound(method, strategy or Bonferroni()) for method in get_args(OneRunMethod)}


def ceiling(
    canaries: int,
    delta: float,
    confidence: float = 0.95,
    strategy: Strategy | None = None,
    direction: Direction = "higher",
    choices: int = 1,
) -> dict[OneRunMethod, float]:
    """The most that so many canaries can show: epsilon, by method, if half of them are in and the scores tell who.

    Args:
        canaries: how many there are.
        delta: of the guarantee that is tested.
        confidence: of the bound.
        strategy: how the number of guesses is chosen; None for `Bonferroni()`.
        direction: of the scores, as in `audit_one_run`.
        choices: from how many audits the best is taken.

    Raises:
        InputError: a number out of range.
    """
    significance, signs = _checked(delta, confidence, direction, choices)
    if canaries < 1:
        raise InputError(f"an audit needs canaries, got {canaries}")
    counted, grid = _counted(canaries, strategy or Bonferroni(), significance)
    tests = _tests(strategy, grid, signs)
    return {
        method: _ceiling(method, counted, counted - counted // 2, grid, delta, significance / tests)
        for method in get_args(OneRunMethod)
    }


class _Outcome(NamedTuple):
    """What one choice showed."""

    strength: float
    correct: int
    choice: Guesses


class _Audit:
    """Scores that are fit for an audit, and what it may claim about them.

    Args:
        scores: [canaries].
        included: [canaries].
        delta: of the guarantee.
        significance: of each of the audits from which the caller chooses.
        confidence: as it was asked for.
        choices: from how many the caller chooses.
        signs: 1 where high scores say `in`, -1 where low ones do; all that are tried.
        seed: of how ties are broken.
    """

    def __init__(
        self,
        scores: Float64[np.ndarray, "canaries"],
        included: Bool[np.ndarray, "canaries"],
        delta: float,
        significance: float,
        confidence: float,
        choices: int,
        signs: tuple[int, ...],
        seed: int,
    ) -> None:
        self._scores, self._included, self._delta, self._seed = scores, included, delta, seed
        self._significance, self._confidence, self._choices, self._signs = significance, confidence, choices, signs

    def bound(self, method: OneRunMethod, strategy: Strategy) -> EpsilonBound:
        counted, grid = _counted(len(self._scores), strategy, self._significance)
        signs = self._signs
        tests = _tests(strategy, grid, signs)
        needed = smallest_count(self._significance / tests)
        if counted < needed:
            raise InputError(
                f"{counted} canaries can show nothing at a confidence of {self._confidence:.4g}, whatever they score: "
                f"even all guesses right are chance. Expected {needed} guesses at the least, better hundreds"
            )
        everyone = np.arange(len(self._scores))
        if isinstance(strategy, SplitCanaries):
            chance = np.random.default_rng([self._seed, strategy.seed]).permutation(everyone)
            choosing, everyone = chance[: len(chance) - counted], chance[len(chance) - counted :]
            sign, chosen = self._choice(method, choosing, counted)
            grid, signs = (chosen,), (sign,)
        significance = self._significance / tests
        members = int(self._included[everyone].sum())
        most = _ceiling(method, counted, members, grid, self._delta, significance)
        outcome = max(
            (self._outcome(method, everyone, sign, choice, significance) for sign in signs for choice in grid),
            key=lambda outcome: (outcome.strength, outcome.correct / sum(outcome.choice)),
        )
        epsilon = _epsilon(method, outcome.strength, self._delta)
        note = remarks(epsilon, most, counted, self._delta)
        if np.ptp(self._scores) == 0:
            note = "all canaries have the same score, which tells none from another; " + note
        return EpsilonBound(
            epsilon_lower=epsilon,
            confidence=self._confidence,
            delta=self._delta,
            method=method,
            canaries=counted,
            guesses=sum(outcome.choice),
            correct=outcome.correct,
            guessed_in=outcome.choice.members,
            guessed_out=outcome.choice.nonmembers,
            ceiling=most,
            choices=tests * self._choices,
            strategy=strategy.name,
            mu_lower=outcome.strength if method == "gaussian_dp" else None,
            note=note,
        )

    def _outcome(
        self, method: OneRunMethod, canaries: Int64[np.ndarray, "some"], sign: int, choice: Guesses, significance: float
    ) -> _Outcome:
        order = ranking(sign * self._scores[canaries], self._seed)
        correct = count_correct(order, self._included[canaries], choice)
        return _Outcome(_strength(method, len(canaries), choice, correct, self._delta, significance), correct, choice)

    def _choice(self, method: OneRunMethod, choosing: Int64[np.ndarray, "some"], counted: int) -> tuple[int, Guesses]:
        """What the choosing canaries say, in numbers for those that are counted."""
        best = max(
            (
                (self._outcome(method, choosing, sign, choice, self._significance), sign)
                for sign in self._signs
                for choice in guess_grid(len(choosing), self._significance)
            ),
            key=lambda pair: (pair[0].strength, pair[0].correct / sum(pair[0].choice)),
        )
        outcome, sign = best
        scale = counted / len(choosing)
        members = min(counted, round(outcome.choice.members * scale))
        nonmembers = min(counted - members, round(outcome.choice.nonmembers * scale))
        return sign, Guesses(members, nonmembers) if members + nonmembers else Guesses(1, 0)


def _checked(delta: float, confidence: float, direction: Direction, choices: int) -> tuple[float, tuple[int, ...]]:
    """The significance of one of the caller's audits, and the signs of the scores that it tries."""
    check_confidence(confidence)
    check_delta(delta)
    signs = signs_of(direction)
    if choices < 1:
        raise InputError(f"choices must be 1 or more, got {choices}")
    return (1 - confidence) / choices, signs


def _counted(canaries: int, strategy: Strategy, significance: float) -> tuple[int, Sequence[Guesses]]:
    """How many canaries are counted, and with which choices (of `SplitCanaries`, those that the others can make)."""
    if isinstance(strategy, Explicit):
        return canaries, check_grid([(strategy.members, strategy.nonmembers)], canaries)
    if isinstance(strategy, Bonferroni):
        grid = guess_grid(canaries, significance) if strategy.grid is None else check_grid(strategy.grid, canaries)
        return canaries, grid
    counted = canaries - max(1, round(canaries * strategy.share))
    if counted < 1:
        raise InputError(f"{canaries} canaries are too few to split: none is left to be counted")
    return counted, [Guesses(counted - counted // 2, counted // 2)]


def _tests(strategy: Strategy | None, grid: Sequence[Guesses], signs: Sequence[int]) -> int:
    """How many tests are made of the canaries that are counted; `SplitCanaries` tries signs on the others."""
    return len(grid) * (1 if isinstance(strategy, SplitCanaries) else len(signs))


def _strength(
    method: OneRunMethod, canaries: int, choice: Guesses, correct: int, delta: float, significance: float
) -> float:
    """The bound on the method's own scale: epsilon, or mu."""
    guesses = sum(choice)
    if method == "gaussian_dp":
        return gaussian_dp.lower_bound(canaries, guesses, correct, significance)
    return approximate_dp.lower_bound(canaries, guesses, correct, delta, significance)


def _ceiling(
    method: OneRunMethod, canaries: int, members: int, grid: Sequence[Guesses], delta: float, significance: float
) -> float:
    """Of scores that order members before all others."""
    strengths = []
    for choice in grid:
        correct = min(choice.members, members) + min(choice.nonmembers, canaries - members)
        strengths.append(_strength(method, canaries, choice, correct, delta, significance))
    return _epsilon(method, max(strengths), delta)


def _epsilon(method: OneRunMethod, strength: float, delta: float) -> float:
    return epsilon_of_mu(strength, delta) if method == "gaussian_dp" else strength
