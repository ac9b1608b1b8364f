"""Clients that leave a protocol before its end, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from fedsec.errors import InputError

__all__ = ["Absence", "Dropouts"]

Leaving = float | tuple[int, ...]
"""A share of those who are still there, drawn anew each time, or the clients themselves."""


@dataclass(frozen=True)
class Absence:
    """Places of the clients that leave one run of a protocol, by phase.

    Args:
        before_sharing: who was invited and never answered: nobody depends on them.
        before_upload: who agreed on masks and uploads nothing: its masks stand in the others' vectors.
        before_unmasking: who uploaded, and then does not help to take masks off: it counts.
    """

    before_sharing: frozenset[int] = frozenset()
    before_upload: frozenset[int] = frozenset()
    before_unmasking: frozenset[int] = frozenset()

    @property
    def uncounted(self) -> frozenset[int]:
        """Whose vectors are not part of the sum."""
        return self.before_sharing | self.before_upload


@dataclass(frozen=True)
class Dropouts:
    """Who drops out in each phase: a share of those still there, rounded to whole clients, or numbers of clients.

    Args:
        before_sharing: see `Absence`.
        before_upload: likewise.
        before_unmasking: likewise.

    Raises:
        InputError: a share that is none.
    """

    before_sharing: Leaving = 0.0
    before_upload: Leaving = 0.0
    before_unmasking: Leaving = 0.0

    def __post_init__(self) -> None:
        for name in (part.name for part in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, tuple) and not 0 <= value <= 1:
                raise InputError(f"secure_aggregation: dropouts.{name} must lie in [0, 1], got {value}")

    @property
    def any(self) -> bool:
        """Whether anybody may drop out at all."""
        return any(bool(getattr(self, part.name)) for part in fields(self))

    def named(self) -> dict[str, tuple[int, ...]]:
        """The clients that leave by number, by phase; phases without any are left out."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, tuple) and value}

    def left(self, clients: int) -> int:
        """How many of so many stay to the end, of those who are not named by number."""
        for name in (part.name for part in fields(self)):
            value = getattr(self, name)
            clients -= 0 if isinstance(value, tuple) else round(value * clients)
        return clients

    def drawn(self, clients: Sequence[int], rng: np.random.Generator) -> Absence:
        """Who leaves one run.

        Args:
            clients: their numbers, by place.
            rng: of the draw.
        """
        there, leaving = list(range(len(clients))), dict[str, frozenset[int]]()
        for name in (part.name for part in fields(self)):
            value = getattr(self, name)
            order = rng.permutation(len(there)).tolist()
            if isinstance(value, tuple):
                gone = {place for place in there if clients[place] in value}
            else:
                gone = {there[index] for index in order[: round(value * len(there))]}
            there = [place for place in there if place not in gone]
            leaving[name] = frozenset(gone)
        return Absence(**leaving)
