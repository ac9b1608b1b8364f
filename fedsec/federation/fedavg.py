"""Federated averaging.

McMahan, Moore, Ramage, Hampson, Agueera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017, arXiv:1602.05629. The server's learning rate is that of Reddi et al.,
Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fedsec.federation.algorithm import Algorithm
from fedsec.federation.batches import LocalTraining, plan_batches
from fedsec.federation.local import CohortTrainer
from fedsec.seeds import Streams


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Federated averaging: clients train for several local steps, the server averages; one round is one-shot.

    Args:
        local: what each client does in a round.

    Reference: McMahan et al. 2017, arXiv:1602.05629
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))

    def updates(
        self,
        trainer: CohortTrainer,
        start: Float[Tensor, "parameters"],
        clients: Sequence[int],
        round_number: int,
        streams: Streams,
    ) -> Float[Tensor, "clients parameters"]:
        """theta_i - theta after each client's local training."""
        plans = [
            plan_batches(trainer.data.clients[i], self.local, streams.numpy("client", i, "round", round_number))
            for i in clients
        ]
        return trainer.train(start, plans, self.local)
