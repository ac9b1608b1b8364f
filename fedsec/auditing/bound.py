"""What an audit found: a lower bound of epsilon, and all that a reader must know beside it."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Method = Literal["approximate_dp", "gaussian_dp", "two_samples", "two_samples_gaussian"]


@dataclass(frozen=True)
class EpsilonBound:
    """With the stated confidence, the mechanism is not (epsilon, delta)-DP for any epsilon below `epsilon_lower`.

    It bounds what was looked at: another attacker may find more. 0 says that this audit showed nothing, not that
    nothing leaks; `ceiling` is the most that it could have shown.

    Attributes:
        epsilon_lower: the bound, not negative.
        confidence: 1 minus the probability with which a mechanism that keeps its promise is accused, in (0, 1).
        delta: of the guarantee that is tested.
        method: `approximate_dp` (no assumption), `gaussian_dp` (the mechanism's trade-off curve is a Gaussian one), or
            the same two from two samples of scores.
        canaries: how many the count was made over.
        guesses: for how many of them the auditor said `in` or `out`.
        correct: how many of these were right.
        guessed_in: of the guesses, those that said `in`.
        guessed_out: those that said `out`.
        ceiling: epsilon_lower, had the scores told perfectly who was in.
        choices: from how many tests this one was chosen; paid for in the confidence.
        strategy: how: `bonferroni`, `split` or `explicit`.
        mu_lower: the bound as mu of the Gaussian curve; None where no such curve is assumed.
        note: what a reader must know; empty if nothing.
    """

    epsilon_lower: float
    confidence: float
    delta: float
    method: Method
    canaries: int
    guesses: int
    correct: int
    guessed_in: int
    guessed_out: int
    ceiling: float
    choices: int
    strategy: str
    mu_lower: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """By name, fit for JSON: None for what is infinite."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        """In a line, as a terminal shows it."""
        return (
            f"epsilon >= {self.epsilon_lower:.2f} at delta {self.delta:.2g} with {self.confidence:.0%} confidence "
            f"({self.correct} of {self.guesses} guesses right; at most {self.ceiling:.2f} could have been shown)"
        )


def remarks(bound: float, ceiling: float, canaries: int, delta: float) -> str:
    """What the numbers alone do not say.

    Args:
        bound: the lower bound.
        ceiling: the most that could have been shown.
        canaries: how many there are.
        delta: of the guarantee that is tested.
    """
    if ceiling == math.inf:
        return "Gaussian noise promises no finite epsilon at delta 0: name a delta above it"
    if not ceiling:
        return (
            f"nothing could be shown: delta {delta:.2g} alone allows {canaries} canaries to be told apart as well as "
            "all guesses right do; name a smaller delta"
        )
    if not bound:
        return (
            f"nothing shown, which is no proof that nothing leaks: {canaries} canaries could have shown "
            f"epsilon {ceiling:.2f} at most"
        )
    if bound > 0.9 * ceiling:
        return f"close to the ceiling of {ceiling:.2f}: only more than {canaries} canaries could show more"
    return ""
