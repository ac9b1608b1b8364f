"""Attacks on data, on the nodes that have them.

A mod of Flower's sees messages, and no data: what poisons them is called where the ClientApp loads them.
"""

from collections.abc import Collection

from flwr.app import Context
from torch import Tensor

from fedsec.errors import InputError
from fedsec.flower.byzantine_nodes import ByzantineNodes
from fedsec.seeds import Streams
from fedsec.threat import DataPoisoning

__all__ = ["poisoned"]


def poisoned(
    context: Context,
    inputs: Tensor,
    targets: Tensor,
    *,
    attack: DataPoisoning,
    num_classes: int | None,
    nodes: Collection[int] | None = None,
    partitions: Collection[int] | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """A node's data as it trains on them: poisoned on Byzantine nodes, the very same objects on all others.

    Args:
        context: of the ClientApp.
        inputs: [n, ...] of the node; left unchanged.
        targets: their classes, of int64, or other targets; left unchanged.
        attack: on data, such as `LabelFlip()`.
        num_classes: how many classes there are; None for a task without classes.
        nodes: ids of Byzantine nodes.
        partitions: partition ids of Byzantine nodes.
        seed: of attacks that draw; each node draws its own numbers, in every round the same.

    Raises:
        InputError: no attack on data, or nobody who carries it out.
    """
    byzantine = ByzantineNodes(nodes, partitions)
    if not isinstance(attack, DataPoisoning):
        raise InputError(
            f"poisoned: {type(attack).__name__} is no attack on data; expected one such as LabelFlip(), and "
            "byzantine_mod for attacks on updates"
        )
    if not byzantine.holds(context):
        return inputs, targets
    who = context.node_config.get("partition-id", context.node_id)
    generator = Streams(seed).torch("attack", "data", str(who))
    return attack.poison(inputs, targets, num_classes=num_classes, generator=generator)
