"""What nodes answered to a round of training, checked one by one.

A node may send anything. What cannot be used is that node's own loss: it is named with the reason, and the others'
replies stand. Flower's own strategies give up the whole run where one reply has other arrays than the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from flwr.app import Message, MetricRecord
from torch import Tensor

from fedsec.errors import InputError
from fedsec.flower.arrays import state_of

__all__ = ["Reply", "read_replies"]


@dataclass(frozen=True, eq=False)
class Reply:
    """What one node sent back.

    Attributes:
        node: its id.
        message: as it came.
        state: its model by name; None where there is none to be read.
        num_examples: how many examples it says to have; None where it does not say, or says nothing sensible.
        problem: why its model cannot be used; empty where it can.
    """

    node: int
    message: Message
    state: dict[str, Tensor] | None
    num_examples: float | None
    problem: str = ""

    @property
    def metrics(self) -> MetricRecord | None:
        """Its only metric record; None where it has none, or several."""
        records = list(self.message.content.metric_records.values())
        return records[0] if len(records) == 1 else None


def read_replies(messages: Iterable[Message], weighted_by_key: str) -> tuple[list[Reply], dict[int, str]]:
    """The replies that carry content, in the order of their node ids, and the errors of the others by node id.

    Of a node that replies twice the first reply counts.

    Args:
        messages: as the grid gave them.
        weighted_by_key: the metric that says how many examples a node has.
    """
    replies: dict[int, Reply] = {}
    failed: dict[int, str] = {}
    for message in messages:
        node = message.metadata.src_node_id
        if message.has_error():
            failed[node] = message.error.reason or f"error {message.error.code}"
        elif node not in replies:
            replies[node] = _read(node, message, weighted_by_key)
    return [replies[node] for node in sorted(replies)], failed


def _read(node: int, message: Message, weighted_by_key: str) -> Reply:
    records = list(message.content.array_records.values())
    state, problem = None, ""
    if len(records) == 1:
        try:
            state = state_of(records[0], "its reply")
        except InputError as error:
            problem = str(error)
    else:
        problem = f"its reply holds {len(records)} array records; expected one, the trained model"
    reply = Reply(node, message, state, None, problem)
    claimed = None if reply.metrics is None else reply.metrics.get(weighted_by_key)
    sensible = isinstance(claimed, int | float) and isfinite(claimed) and claimed >= 0
    return Reply(node, message, state, float(claimed) if sensible else None, problem)  # type: ignore[arg-type]
