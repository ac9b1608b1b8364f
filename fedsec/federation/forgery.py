"""What the server receives in place of what the Byzantine clients would have sent."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregator
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, UpdatePoisoning


def forged(
    sent: Mapping[str, Float[Tensor, "clients parameters"]],
    attack: object | None,
    byzantine: Sequence[int],
    parameters: Float[Tensor, "parameters"],
    round_number: int,
    streams: Streams,
    rule: Aggregator,
) -> dict[str, Float[Tensor, "clients parameters"]]:
    """What the server receives of each vector: what was sent, the Byzantine clients' rows forged.

    An attack forges one vector after another. A client of which one vector is not finite is not heard at all: its rows
    are NaN in the others, too.

    Args:
        sent: of each vector a row for each client; left unchanged, and handed on as it is where nobody forges.
        attack: what the Byzantine clients do; only attacks on updates do anything here.
        byzantine: their places in the rows.
        parameters: that the server broadcast.
        round_number: from 1.
        streams: the experiment's.
        rule: of the server, for attacks that adapt to it.
    """
    received = dict(sent)
    if byzantine and isinstance(attack, UpdatePoisoning):
        received = {
            name: _forged(name, rows, attack, byzantine, parameters, round_number, streams, rule)
            for name, rows in sent.items()
        }
    if len(received) > 1:
        lost = torch.stack([~rows.isfinite().all(1) for rows in received.values()]).any(0)
        if bool(lost.any()):
            received = {name: rows.masked_fill(lost[:, None], torch.nan) for name, rows in received.items()}
    return received


def _forged(
    name: str,
    rows: Float[Tensor, "clients parameters"],
    attack: UpdatePoisoning,
    byzantine: Sequence[int],
    parameters: Float[Tensor, "parameters"],
    round_number: int,
    streams: Streams,
    rule: Aggregator,
) -> Float[Tensor, "clients parameters"]:
    places, attackers = list(byzantine), set(byzantine)
    honest = [place for place in range(len(rows)) if place not in attackers] if attack.knowledge == "omniscient" else []
    stream = ("attack", "round", round_number, *(() if name == "update" else (name,)))
    generator = streams.torch(*stream)
    view = AttackerView(
        own=rows[places],
        honest=rows[honest],
        parameters=parameters,
        num_clients=len(rows),
        num_byzantine=len(places),
        round=round_number,
        generator=generator,
        defense=partial(_tried, rule, generator),
    )
    received = rows.clone()
    received[places] = attack.craft(view)
    return received


def _tried(rule: Aggregator, generator: torch.Generator, rows: Tensor) -> Tensor:
    """What the rule would make of some rows; it forgets them at once."""
    state = {name: tensor.clone() for name, tensor in rule.state().items()}
    try:
        return rule(rows, generator=generator if rule.draws else None)
    finally:
        rule.restore(state)
