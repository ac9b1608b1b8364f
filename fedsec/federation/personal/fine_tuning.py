"""Fine-tuning: each client goes on with the final model on its own examples, and nothing of it is sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fedsec.engine.local_training import LocalTraining
from fedsec.federation.algorithms.local_steps import plan_client

if TYPE_CHECKING:
    from fedsec.federation.global_model import GlobalModelLoop

AT_ONCE = 64
"""Clients whose tuned models are in memory at a time."""


@dataclass(frozen=True)
class FineTuning:
    """What each client does with the model that it is left with when the run is over.

    Args:
        local: its training, on the examples that it trained on all along.

    Reference: Wang, Mathews, Kiddon, Eichner, Beaufays, Ramage 2019, arXiv:1910.10252
    """

    local: LocalTraining

    def models(self, loop: "GlobalModelLoop", clients: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(client, its tuned parameters, its running statistics), client by client.

        Args:
            loop: whose models are tuned: each client's own, where it has one, else the global one.
            clients: who tunes; each draws from streams of its own, whoever else does.
        """
        streams = loop.streams.branch("fine_tune")
        for first in range(0, len(clients), AT_ONCE):
            some = clients[first : first + AT_ONCE]
            start = loop.left_with(some)
            plans = [plan_client(loop.data, client, self.local, 1, streams) for client in some]
            tuned = loop.trainer.train(start, plans, self.local)
            rows = start.parameters + tuned.updates
            for place, client in enumerate(some):
                yield client, rows[place], tuned.statistics[place]
