"""What a curious server sees of one node: its reply as an observation for an inversion."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from fedsec.errors import InputError
from fedsec.flower.received import Received
from fedsec.threat import Observation
from fedsec.threat.observed.local_steps import LocalSteps

__all__ = ["observe"]


def observe(
    received: Received,
    node: int,
    *,
    model: nn.Module,
    local: LocalSteps | None,
    input_shape: Sequence[int],
    num_classes: int,
    batch_size: int | None = None,
    **known: Any,
) -> Observation:
    """One node's reply as a server sees it, for `reconstruct` of any inversion.

        strategy = RobustStrategy(Mean(), observers=[rounds.append])
        ...
        seen = observe(rounds[0], node, model=model, local=LocalSteps(lr=0.1, steps=1), ...)
        Decoupled().reconstruct(seen)

    Args:
        received: a round, as observers of a `RobustStrategy` are given it, or from `Received.of_messages`.
        node: its id.
        model: the architecture, on the device to compute on; left as it is.
        local: the node's training; None where the server does not know it.
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        batch_size: images of the node; by default the number of examples that it says to have.
        known: the other fields of `Observation`.

    Raises:
        InputError: the node sent nothing that can be read, its batch size is not known, or the parts do not go
            together.
    """
    if node not in received.replies:
        heard = ", ".join(map(str, received.replies)) or "nobody"
        raise InputError(f"round {received.round}: nothing to be read came from node {node}; it came from {heard}")
    if batch_size is None:
        said = received.num_examples.get(node)
        if said is None or said < 1:
            raise InputError(f"node {node} does not say how many examples it has; expected batch_size")
        batch_size = int(said)
    return Observation.of_state_dicts(
        received.sent,
        received.replies[node],
        model=model,
        local=local,
        input_shape=input_shape,
        num_classes=num_classes,
        batch_size=batch_size,
        **known,
    )
