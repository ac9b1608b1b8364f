"""What a server received in one round, for whoever looks on: recordings, inversions, code of one's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Observer", "Received"]


@dataclass(frozen=True, eq=False)
class Received:
    """One round as the server sees it, before its rule.

    Attributes:
        round: its number, from 1.
        sent: the model that was sent, by name.
        replies: node id -> the model that came back, by name; with the updates of a simulated attack, where there is
            one. Replies that could not be read are left out.
        num_examples: node id -> how many examples it says to have; of those that said so.
    """

    round: int
    sent: Mapping[str, Tensor]
    replies: Mapping[int, Mapping[str, Tensor]]
    num_examples: Mapping[int, float]


Observer = Callable[[Received], None]
"""Looks at each round before it is aggregated, and changes nothing."""
