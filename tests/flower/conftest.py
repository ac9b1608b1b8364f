"""A Flower server and its nodes without a network: messages made by hand, and a grid that only knows node ids."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsec[flower]'")

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity


class FakeGrid:
    """Knows which nodes are connected, and sends nothing."""

    def __init__(self, nodes: Sequence[int]) -> None:
        self.nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        return self.nodes


class ByHand:
    """A server's round, message by message."""

    nodes = (2**64 - 5, 7, 1_000_000_007, 11, 13)
    """Ids as Flower draws them, of 64 bits without a sign; sorted the first one is the last."""

    def model(self, norm: bool = True) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4) if norm else nn.ReLU(), nn.Linear(4, 2))

    def configured(
        self, strategy: Any, state: Mapping[str, Tensor], nodes: Sequence[int] = nodes, number: int = 1
    ) -> dict[int, Message]:
        """A round's messages by node id."""
        grid: Any = FakeGrid(nodes)
        messages = strategy.configure_train(number, ArrayRecord(dict(state)), ConfigRecord(), grid)
        return {message.metadata.dst_node_id: message for message in messages}

    def answer(self, message: Message, state: Mapping[str, Any], num_examples: Any = 10, **metrics: Any) -> Message:
        """What a node replies."""
        records = {
            "arrays": ArrayRecord(dict(state)),
            "metrics": MetricRecord({"num-examples": num_examples, **metrics}),
        }
        return Message(RecordDict(records), reply_to=message)

    def failure(self, message: Message, reason: str) -> Message:
        return Message(Error(code=0, reason=reason), reply_to=message)

    def shifted(self, state: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
        """The model, moved by a number everywhere; counters by one."""
        return {name: value + by if value.is_floating_point() else value + 1 for name, value in state.items()}

    def play(self, strategy: Any, state: Mapping[str, Tensor], moves: Mapping[int, float], number: int = 1) -> Any:
        """One round in which each node moves its model by a number; gives the next model by name, and the metrics."""
        messages = self.configured(strategy, state, tuple(moves), number)
        replies = [self.answer(messages[node], self.shifted(state, by)) for node, by in moves.items()]
        arrays, metrics = strategy.aggregate_train(number, replies)
        return (None if arrays is None else dict(arrays.to_torch_state_dict())), metrics


@pytest.fixture
def flower() -> Iterator[ByHand]:
    """Messages by hand, sent by a task of a run, as Flower tells its processes at their start."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    yield ByHand()
    TaskIdentity._task_id = TaskIdentity._run_id = TaskIdentity._node_id = None


class OneNode:
    """A ClientApp on one node: trains by moving every parameter of the model that comes by a number."""

    def __init__(self, state: Mapping[str, Tensor], node_id: int = 7, **node_config: Any) -> None:
        self.state, self.node_id = state, node_id
        self.context = Context(1, node_id, node_config, RecordDict(), {})
        self.calls = 0

    def send(self, mod: Any, move: Any, *, number: int | None = 1, kind: str = "train", **metrics: Any) -> Message:
        """One message through a mod, and the reply."""
        records: dict[str, Any] = {"arrays": ArrayRecord(dict(self.state))}
        if number is not None:
            records["config"] = ConfigRecord({"server-round": number})
        message = Message(RecordDict(records), dst_node_id=self.node_id, message_type=kind)

        def app(message: Message, context: Context) -> Message:
            self.calls += 1
            after = move if isinstance(move, dict) else ByHand().shifted(self.state, move)
            content = RecordDict(
                {"arrays": ArrayRecord(after), "metrics": MetricRecord({"num-examples": 9, **metrics})}
            )
            return Message(content, reply_to=message)

        return mod(message, self.context, app)  # type: ignore[no-any-return]

    def update(self, reply: Message) -> dict[str, Tensor]:
        """What the reply's model differs by from the one that came."""
        assert not reply.has_error(), reply.error.reason
        after = reply.content.array_records["arrays"].to_torch_state_dict()
        return {name: after[name].double() - self.state[name].double() for name in self.state}


@pytest.fixture
def node(flower: ByHand) -> OneNode:
    """A node of partition 2 with a model that has normalization layers."""
    return OneNode(flower.model().state_dict(), **{"partition-id": 2, "num-partitions": 5})
