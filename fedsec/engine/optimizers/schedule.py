"""How a learning rate, local or the server's, changes from round to round."""

import math
from dataclasses import dataclass
from typing import Literal

from fedsec.errors import InputError


@dataclass(frozen=True)
class RateSchedule:
    """A linear warm-up, and what follows it; rounds count from 1.

    Round t of the warm-up has t / `warmup` of the rate. Then, of `rounds` = T,

        none:    all of it
        cosine:  floor + (1 - floor) (1 + cos(pi (t - 1 - warmup) / (T - warmup))) / 2, and floor behind round T
        step:    gamma^floor((t - 1) / every), during the warm-up too

    as PyTorch's CosineAnnealingLR and StepLR have it for epochs.

    Args:
        decay: what follows the warm-up.
        warmup: how many rounds it takes; 0 for none.
        rounds: T, of cosine.
        floor: of cosine: the share of the rate that it ends with.
        every: of step: after how many rounds the rate falls.
        gamma: of step: to which share.

    Raises:
        InputError: a number out of range, or one that the decay needs and is not given, or has no use for.

    Reference: Loshchilov, Hutter 2017, arXiv:1608.03983 (cosine); Goyal et al. 2017, arXiv:1706.02677 (warm-up)
    """

    decay: Literal["none", "cosine", "step"] = "none"
    warmup: int = 0
    rounds: int | None = None
    floor: float = 0.0
    every: int | None = None
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.decay not in ("none", "cosine", "step"):
            raise InputError(f"schedule: decay must be none, cosine or step, got {self.decay!r}")
        if self.warmup < 0:
            raise InputError(f"schedule: warmup must be 0 or more rounds, got {self.warmup}")
        if not 0 <= self.floor <= 1 or not 0 < self.gamma <= 1:
            raise InputError(
                f"schedule: floor must lie in [0, 1] and gamma in (0, 1], got {self.floor} and {self.gamma}"
            )
        for name, decay in (("rounds", "cosine"), ("every", "step")):
            value = getattr(self, name)
            if self.decay == decay and (value is None or value < 1):
                raise InputError(f"schedule: {decay} needs {name} of at least 1, got {value}")
            if self.decay != decay and value is not None:
                raise InputError(f"schedule: {name} belongs to {decay}; expected none with {self.decay}, got {value}")
        if self.rounds is not None and self.warmup >= self.rounds:
            raise InputError(f"schedule: a warm-up of {self.warmup} rounds leaves nothing of {self.rounds}")

    def factor(self, round_number: int) -> float:
        """The share of the rate in a round.

        Args:
            round_number: from 1.

        Raises:
            InputError: nothing is left of it, behind the last round of a cosine that ends at 0.
        """
        if self.rounds is not None and round_number > self.rounds and not self.floor:
            raise InputError(
                f"schedule: the cosine ends with round {self.rounds}, and this is round {round_number}; expected as "
                "many rounds, or a floor above 0"
            )
        warm = min(1.0, round_number / self.warmup) if self.warmup else 1.0
        if self.decay == "step":
            assert self.every is not None
            return warm * float(self.gamma ** ((round_number - 1) // self.every))
        if self.decay == "none" or round_number <= self.warmup:
            return warm
        assert self.rounds is not None
        done = min(1.0, (round_number - 1 - self.warmup) / (self.rounds - self.warmup))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2
