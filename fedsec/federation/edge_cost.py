"""What a round of updates costs its clients: bytes to and fro, and operations."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from fedsec.engine.messages import LocalResult
from fedsec.federation.rounds import EdgeCost

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation

__all__ = ["edge_cost"]


def edge_cost(federation: "Federation", trained: LocalResult, clients: Sequence[int]) -> EdgeCost:
    """Of the round that was played last, on average over its clients.

    What clients cost that are asked for their loss and then not chosen is shared out among those that are.

    Args:
        federation: whose round it is.
        trained: what training left.
        clients: of the round.
    """
    algorithm, size = federation.algorithm, federation.parameters.numel()
    home = algorithm.at_home(federation.algorithm_state)
    size -= 0 if home is None else len(home)
    number = federation.parameters.element_size()
    statistics = federation.statistics.numel() if federation.sends_statistics else 0
    up: float = (len(algorithm.sends) * size + statistics) * number
    down: float = (len(algorithm.broadcasts) * size + statistics) * number
    if federation.sums_report is not None:
        # The protocol's messages take the place of the update.
        up += federation.sums_report.sent - size * number
        down += federation.sums_report.received
    sizes = federation.data.sizes(clients).tolist()
    examples = trained.examples.tolist()
    if federation.privacy is not None:
        # How many examples a private client drew is its secret: what is published is what it does on average.
        examples = [math.prod(algorithm.batch_and_steps(int(own))) for own in sizes]
    trained_by = sum(len(algorithm.contributors(client)) for client in clients)
    flops = math.fsum(examples) / trained_by * federation.costs.training_flops
    if federation.bn == "recalibrate" and federation.statistics.numel() and federation.evaluated(federation.round):
        # The new model comes, the client's images pass through it once, and their statistics go.
        down, up = down + size * number, up + federation.statistics.numel() * number
        flops += fmean(sizes) * federation.costs.forward_flops
    if asked := federation.asked(federation.round):
        # Each receives the model, passes all its examples through it once, and states a number.
        up += len(asked) * number / len(clients)
        down += len(set(asked) - set(clients)) * (len(algorithm.broadcasts) * size + statistics) * number / len(clients)
        flops += math.fsum(federation.data.sizes(asked).tolist()) * federation.costs.forward_flops / len(clients)
    return EdgeCost(up, down, flops)
