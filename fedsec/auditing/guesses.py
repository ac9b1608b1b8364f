"""From scores to guesses, and which guesses to count: chosen before, paid for, or chosen on other canaries.

An auditor says `in` of the canaries with the highest scores and `out` of those with the lowest, and nothing of the
rest. How many of each is a choice. To try all and report the best on the same scores finds leakage in noise; it is not
offered.

- `Bonferroni`: a short list of choices, fixed before the scores are seen, each tested at its share of the significance.
- `SplitCanaries`: half of the canaries chooses, the other half counts.
- `Explicit`: one choice, made before.

Scores that say the contrary of what they should (higher for those that were out) are another choice, `direction: both`,
and are paid for alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from fedsec.auditing.canaries import smallest_count
from fedsec.errors import InputError

Direction = Literal["higher", "lower", "both"]
_SIGNS: dict[str, tuple[int, ...]] = {"higher": (1,), "lower": (-1,), "both": (1, -1)}


class Guesses(NamedTuple):
    """How many canaries the auditor names.

    Attributes:
        members: of those with the highest scores: `in`.
        nonmembers: of those with the lowest: `out`.
    """

    members: int
    nonmembers: int


@dataclass(frozen=True)
class Bonferroni:
    """Several choices, all counted on all canaries, each at its share of the significance.

    Args:
        grid: the choices; None for `guess_grid`'s.
    """

    name: ClassVar = "bonferroni"
    grid: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True)
class SplitCanaries:
    """One part of the canaries chooses how many to name, the others are counted.

    Args:
        share: of the canaries that choose, in (0, 1).
        seed: of who they are.
    """

    name: ClassVar = "split"
    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"the share of canaries that choose must lie in (0, 1), got {self.share}")


@dataclass(frozen=True)
class Explicit:
    """One choice, made before the scores were seen.

    Args:
        members: how many to name `in`.
        nonmembers: how many to name `out`.
    """

    name: ClassVar = "explicit"
    members: int
    nonmembers: int


Strategy = Bonferroni | SplitCanaries | Explicit


def guess_grid(canaries: int, significance: float = 0.05) -> tuple[Guesses, ...]:
    """The five choices that are tried unless others are named.

    Three quarters, a half and a quarter of the canaries, half as `in` and half as `out`; and an eighth and a sixteenth
    all as `in`, for scores such as losses that betray some members and tell nothing of the others. Choices too small to
    show anything are left out. More choices cost more than they find; fewer miss leaks of one of the two kinds. To name
    all canaries is no good choice: fair coins are seldom even, so that the best scores err at the middle.

    Args:
        canaries: how many there are.
        significance: of the whole audit; sets what is too small.
    """
    named = (3 * canaries // 4, canaries // 2, canaries // 4)
    grid = [Guesses(guesses - guesses // 2, guesses // 2) for guesses in named]
    grid += [Guesses(canaries // 8, 0), Guesses(canaries // 16, 0)]
    useful = [choice for choice in grid if sum(choice) >= smallest_count(significance / len(grid))]
    return tuple(useful) or (Guesses(canaries - canaries // 2, canaries // 2),)


def check_grid(grid: Sequence[tuple[int, int]], canaries: int) -> tuple[Guesses, ...]:
    """Choices without repetition, if so many canaries can be named.

    Args:
        grid: the choices.
        canaries: how many there are.

    Raises:
        InputError: none, negative numbers, or more guesses than canaries.
    """
    if not grid:
        raise InputError("an audit needs one choice of how many canaries to name at least, got none")
    for members, nonmembers in grid:
        if members < 0 or nonmembers < 0 or not 0 < members + nonmembers <= canaries:
            raise InputError(
                f"the numbers of canaries to name must not be negative and add up to 1 to {canaries}, got {members} "
                f"as in and {nonmembers} as out"
            )
    return tuple(dict.fromkeys(Guesses(int(members), int(nonmembers)) for members, nonmembers in grid))


def ranking(scores: Float64[np.ndarray, "canaries"], seed: int) -> Int64[np.ndarray, "canaries"]:
    """Canaries by falling score.

    Ties are broken by chance: an order by index would know who was in wherever the canaries are listed by that.

    Args:
        scores: [canaries].
        seed: of the chance.
    """
    chance = np.random.default_rng(seed).permutation(len(scores))
    return np.lexsort((chance, -scores))


def count_correct(order: Int64[np.ndarray, "canaries"], included: Bool[np.ndarray, "canaries"], choice: Guesses) -> int:
    """How many of the guesses are right.

    Args:
        order: [canaries] by falling score.
        included: [canaries]; who was in.
        choice: how many are named `in` from the top, and `out` from the bottom.
    """
    inside = included[order]
    outside = ~inside[len(inside) - choice.nonmembers :]
    return int(inside[: choice.members].sum() + outside.sum())


def signs_of(direction: Direction) -> tuple[int, ...]:
    """1 where high scores say `in`, -1 where low ones do: all that are tried.

    Raises:
        InputError: it is no direction.
    """
    if direction not in _SIGNS:
        raise InputError(f"direction must be higher, lower or both, got {direction!r}")
    return _SIGNS[direction]
