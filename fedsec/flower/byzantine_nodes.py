"""Which nodes are Byzantine, where nodes act by themselves."""

from collections.abc import Collection
from dataclasses import dataclass

from flwr.app import Context

from fedsec.errors import InputError

__all__ = ["ByzantineNodes"]


@dataclass(frozen=True)
class ByzantineNodes:
    """Nodes by their ids, or by the partition of the data that they have.

    Flower draws node ids anew for every run; partitions stay, in simulations, and in deployments whose SuperNodes are
    started with `--node-config "partition-id=0 num-partitions=10"`.

    Args:
        nodes: ids of Byzantine nodes.
        partitions: partition ids of Byzantine nodes.

    Raises:
        InputError: neither, so that nobody would be.
    """

    nodes: Collection[int] | None = None
    partitions: Collection[int] | None = None

    def __post_init__(self) -> None:
        if self.nodes is None and self.partitions is None:
            raise InputError(
                "nobody is Byzantine; expected nodes, by their ids, or partitions, such as partitions=range(4)"
            )
        for what, given in (("nodes", self.nodes), ("partitions", self.partitions)):
            if given is not None and not (isinstance(given, Collection) and all(isinstance(one, int) for one in given)):
                raise InputError(f"{what}: expected a collection of numbers such as {what}=[0, 3], got {given!r}")

    def holds(self, context: Context) -> bool:
        """Whether the node of this context is Byzantine.

        Raises:
            InputError: partitions are asked for, and the node has none.
        """
        if self.nodes is not None and context.node_id in self.nodes:
            return True
        if self.partitions is None:
            return False
        if "partition-id" not in context.node_config:
            raise InputError(
                "Byzantine nodes are told by partitions, and this node was started without one; expected nodes=..., or "
                '--node-config "partition-id=..."'
            )
        return int(context.node_config["partition-id"]) in self.partitions
