"""What mods that change a node's update have in common.

A mod stands between Flower and the ClientApp: it sees the message that comes, lets the app answer, and sees the answer.
What the app's model moved by is the update; a mod puts another one in its place. Statistics and counters are not moved
by any update, and each mod says what becomes of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from logging import ERROR
from typing import final

import torch
from flwr.app import ArrayRecord, Context, Error, Message, MessageType, MetricRecord
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode
from flwr.supercore import log
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import StateLayout
from fedsec.errors import FedsecError, InputError
from fedsec.flower.arrays import record_of, state_of

__all__ = ["NodeUpdate", "UpdateMod"]


@dataclass(frozen=True, eq=False)
class NodeUpdate:
    """What one node is about to send in one round.

    Attributes:
        context: of the node; what a mod remembers lies in its `state`.
        layout: of the model that came.
        received: parameters of the model that came.
        trained: the app's own model, by name.
        row: the update, trained minus received parameters.
        round: number that the server gave the round; counted by the mod where it gave none.
        count: of the updates that the mod has changed on this node, this one included, whatever the server says.
        reply: of the app.
    """

    context: Context
    layout: StateLayout
    received: Float[Tensor, "parameters"]
    trained: Mapping[str, Tensor]
    row: Float[Tensor, "parameters"]
    round: int
    count: int
    reply: Message

    @property
    def named(self) -> dict[str, Tensor]:
        """The update by parameter name, in memory of its own."""
        return {name: part.clone() for name, part in self.layout.views(self.row).items()}


class UpdateMod(ABC):
    """A mod that replaces a node's update in messages of training; a subclass fills in `changed`.

    What goes wrong is answered with an error, which the server logs by node: nothing leaves the node then.
    """

    sends_statistics = True
    """Whether statistics and counters of the app's model are sent; those that came are sent back otherwise."""

    @property
    def key(self) -> str:
        """Under which name in the node's `context.state` the mod remembers something."""
        return f"fedsec.{type(self).__name__}"

    @final
    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let the app answer, and change its update, where the message is one of training."""
        if not self.concerns(context):
            return call_next(message, context)
        if message.metadata.message_type.partition(".")[0] != MessageType.TRAIN:
            return self.untrained(call_next(message, context))
        try:
            received = state_of(_only(message, "message that came"), "the message that came")
            layout = StateLayout.of(received)
            reply = call_next(message, context)
            if reply.has_error():
                return reply
            self._change(layout, received, message, reply, context)
        except FedsecError as error:
            reason = f"{type(self).__name__}: {error}"
            log(ERROR, reason)
            return Message(Error(code=ErrorCode.MOD_FAILED_PRECONDITION, reason=reason), reply_to=message)
        return reply

    def concerns(self, context: Context) -> bool:
        """Whether the mod does anything on this node."""
        return True

    def untrained(self, reply: Message) -> Message:
        """What is sent in place of the app's reply to a message that is not one of training."""
        return reply

    @abstractmethod
    def changed(self, update: NodeUpdate) -> Float[Tensor, "parameters"]:
        """What is sent in place of `update.row`.

        Raises:
            InputError: nothing may be sent; says why.
        """

    def _change(
        self, layout: StateLayout, received: dict[str, Tensor], message: Message, reply: Message, context: Context
    ) -> None:
        record = _only(reply, "app's reply")
        trained = state_of(record, "the app's reply")
        start = layout.start()
        row = torch.empty_like(start)
        layout.write_update(row, trained, start, who="the app's reply")
        count = _counted(context, f"{self.key}.rounds")
        update = NodeUpdate(context, layout, start, trained, row, _round(message, count), count, reply)
        after = layout.state_dict(start + self.changed(update))
        if self.sends_statistics:
            moved = {*layout.shapes, *layout.ties}
            after = {name: after[name] if name in moved else trained[name] for name in after}
        key = next(name for name, one in reply.content.array_records.items() if one is record)
        reply.content[key] = record_of(after)


def _round(message: Message, count: int) -> int:
    """The number that the server gave the round, or else a count."""
    for config in message.content.config_records.values():
        number = config.get("server-round")
        if isinstance(number, int):
            return number
    return count


def _counted(context: Context, key: str) -> int:
    """Counts calls, in what the node remembers."""
    record = context.state.get(key)
    count = int(str(record["count"])) + 1 if isinstance(record, MetricRecord) else 1
    context.state[key] = MetricRecord({"count": count})
    return count


def _only(message: Message, what: str) -> ArrayRecord:
    records = list(message.content.array_records.values())
    if len(records) != 1:
        raise InputError(f"the {what} holds {len(records)} array records; expected one, the model")
    return records[0]
