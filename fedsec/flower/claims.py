"""How much each node's reply weighs, from what the node says to have: a number that nobody can check."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from fedsec.errors import InputError
from fedsec.flower.replies import Reply

__all__ = ["Claims", "Weighting"]

Weighting = Literal["examples", "equal"]
"""By the number of examples that a node says to have, or all alike."""


@dataclass(frozen=True)
class Claims:
    """How far the server believes what nodes say of their data.

    Rules that withstand Byzantine nodes ignore weights, since whoever lies about its updates lies about its count. The
    mean uses them, and so do all averages of metrics.

    Args:
        weighting: see `Weighting`.
        max_examples: a node that says to have more counts as one with so many; None for no limit.

    Raises:
        InputError: an unknown weighting, or a limit that is no positive number.
    """

    weighting: Weighting = "examples"
    max_examples: float | None = None

    def __post_init__(self) -> None:
        if self.weighting not in get_args(Weighting):
            raise InputError(
                f"RobustStrategy: weighting must be one of {', '.join(get_args(Weighting))}, got {self.weighting!r}"
            )
        limit = self.max_examples
        if limit is not None and not (isfinite(limit) and limit > 0):
            raise InputError(f"RobustStrategy: max_examples must be positive and finite, got {limit}")
        if limit is not None and self.weighting == "equal":
            raise InputError("RobustStrategy: max_examples limits weights by examples; expected weighting examples")

    def weights(self, replies: Sequence[Reply]) -> list[float]:
        """The relative weight of each reply; zero where a count is asked for and the node gives none."""
        if self.weighting == "equal":
            return [1.0] * len(replies)
        # The sum of what some say may be more than a float holds, and nobody would count then.
        representable = sys.float_info.max / (2 * max(len(replies), 1))
        limit = representable if self.max_examples is None else min(self.max_examples, representable)
        return [0.0 if reply.num_examples is None else min(reply.num_examples, limit) for reply in replies]
