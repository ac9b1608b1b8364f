"""Byzantine clients and parties at the cut of a network: which examples their attack concerns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError
from fedsec.federation.threat import Threat
from fedsec.seeds import Streams
from fedsec.threat import ActivationPoisoning, CutBatch, PixelScale


@dataclass(frozen=True, eq=False)
class CutAttacker:
    """One attacker at a cut.

    Attributes:
        attack: what it does.
        marked: of all examples those that it attacks with.
        known: of all examples those whose labels it knows to be what it aims at.
        scale: how pixels become inputs.
    """

    attack: ActivationPoisoning
    marked: Bool[Tensor, "examples"]
    known: Bool[Tensor, "examples"]
    scale: PixelScale

    def batch(self, examples: Int64[Tensor, "batch"], generator: torch.Generator) -> CutBatch:
        """What it knows of a batch of these examples."""
        return CutBatch(self.marked[examples], self.known[examples], self.scale, generator)


def cut_attackers(
    threat: Threat,
    data: ResidentData,
    examples_of: Callable[[int], np.ndarray],
    num_classes: int | None,
    streams: Streams,
) -> dict[int, CutAttacker]:
    """Everybody who may attack at the cut, by number; nobody where the attack is of another kind, or does nothing.

    Args:
        threat: who is Byzantine, and what they do.
        data: of all clients.
        examples_of: the numbers of a client's examples.
        num_classes: of the data.
        streams: the experiment's.

    Raises:
        InputError: somebody has not the examples that the attack asks for.
    """
    attack = threat.attack
    if not isinstance(attack, ActivationPoisoning) or not attack.acts:
        return {}
    attackers = {}
    constants = data.normalization
    count = max(len(constants.mean), len(constants.std))
    mean, std = ((part * count)[:count] for part in (constants.mean, constants.std))
    for client in sorted(threat.byzantine):
        numbers = torch.from_numpy(examples_of(client)).to(data.device)
        labels = data.label_of[numbers]
        draws = streams.torch("attack", "client", client)
        try:
            chosen = attack.choose(labels, num_classes=num_classes, generator=draws)
        except InputError as error:
            raise InputError(f"attack: client {client}: {error}") from error
        marked, known = (torch.zeros(len(data.label_of), dtype=torch.bool, device=data.device) for _ in range(2))
        marked[numbers], known[numbers] = chosen
        attackers[client] = CutAttacker(attack, marked, known, PixelScale(mean, std))
    return attackers
