"""What a server received in one round, for whoever looks on: recordings, inversions, code of one's own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedsec.flower.arrays import state_of
from fedsec.flower.replies import read_replies

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

    @classmethod
    def of_messages(
        cls, round_number: int, sent: ArrayRecord, replies: Iterable[Message], weighted_by_key: str = "num-examples"
    ) -> Self:
        """A round of a strategy of one's own.

        Args:
            round_number: from 1.
            sent: the model that was sent.
            replies: as the grid gave them; what cannot be read is left out.
            weighted_by_key: the metric that says how many examples a node has.
        """
        answers, _ = read_replies(replies, weighted_by_key)
        models = {answer.node: answer.state for answer in answers if answer.state is not None}
        examples = {answer.node: answer.num_examples for answer in answers if answer.num_examples is not None}
        return cls(round_number, state_of(sent, "the model that was sent"), models, examples)


Observer = Callable[[Received], None]
"""Looks at each round before it is aggregated, and changes nothing."""
