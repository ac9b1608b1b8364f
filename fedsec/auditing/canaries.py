"""Scores of canaries that an audit can use, and refusals of those it cannot."""

import math

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64
from scipy.stats import binomtest

from fedsec.errors import InputError

UNLIKELY = 1e-9
"""Probability of so uneven a coin below which inclusion was not by a fair coin."""


def check_canaries(
    scores: npt.ArrayLike, included: npt.ArrayLike
) -> tuple[Float64[np.ndarray, "canaries"], Bool[np.ndarray, "canaries"]]:
    """Scores and inclusions as arrays, if a one-run audit may be made of them.

    Args:
        scores: [canaries]; higher says that the canary was in the training data.
        included: [canaries]; whether each was, by a fair coin of its own. Exactly half of them, drawn without
            replacement, is something else, for which no bound here is proven; that cannot be seen in the numbers.

    Raises:
        InputError: shapes that differ, scores that are not finite, inclusions that are neither 0 nor 1, or that no
            fair coin gave.
    """
    values = as_scores(scores, "canary")
    try:
        inside = np.asarray(included)
    except ValueError as error:
        raise InputError(f"included must be a list of true and false, one a canary: {error}") from error
    if values.ndim != 1 or values.shape != inside.shape:
        raise InputError(
            f"scores and included must be two lists of one length, a canary each; got shapes {list(values.shape)} and "
            f"{list(inside.shape)}"
        )
    if not values.size:
        raise InputError("an audit needs canaries, got none")
    if not np.isin(inside, (0, 1)).all():
        raise InputError("included must hold true or false for every canary: whether it was in the training data")
    number = int(inside.sum())
    if binomtest(number, inside.size, 0.5).pvalue < UNLIKELY:
        raise InputError(
            f"{number} of {inside.size} canaries were included, which no fair coin does: each must be in the training "
            "data with probability 1/2, independently of the others"
        )
    return values, inside.astype(bool)


def as_scores(scores: npt.ArrayLike, noun: str) -> Float64[np.ndarray, "..."]:
    """Scores as an array, whatever they came in.

    Args:
        scores: an array, a list, or a tensor on the CPU.
        noun: what has a score.

    Raises:
        InputError: some are no numbers, or not finite.
    """
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scores must be numbers, one a {noun}, in an array or a list: {error}") from error
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"scores must be finite, but that of {noun} {bad[0]} is {values.flat[bad[0]]} ({bad.size} of {values.size} "
            "are not): leave out what cannot be scored before it is known who was in"
        )
    return values


def check_distinct(names: npt.ArrayLike) -> None:
    """Refuse canaries that are there twice: the coin of one would decide over both.

    Args:
        names: [canaries]; whatever tells canaries apart, for instance indices into a dataset.

    Raises:
        InputError: one comes more than once.
    """
    values, counts = np.unique(np.asarray(names), return_counts=True)
    twice = values[counts > 1]
    if twice.size:
        raise InputError(
            f"canaries must differ from one another, but {twice[0]} comes {counts[counts > 1][0]} times"
            + (f" and {twice.size - 1} more come repeatedly" if twice.size > 1 else "")
        )


def smallest_count(significance: float) -> int:
    """The fewest guesses that can show an epsilon above 0: so many coins must all fall right by chance rarely enough.

    Args:
        significance: of the one test, after any correction.
    """
    return math.floor(-math.log2(significance)) + 1
