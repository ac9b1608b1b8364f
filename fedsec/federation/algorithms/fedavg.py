"""Federated averaging.

McMahan, Moore, Ramage, Hampson, Agueera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017, arXiv:1602.05629. The server's learning rate is that of Reddi et al.,
Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedsec.engine.batches import BatchPlan, Noise, plan_batches
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.stragglers import Stragglers
from fedsec.privacy.private_training import PrivateTraining
from fedsec.seeds import Streams


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Federated averaging: clients train for several local steps, the server averages; one round is one-shot.

    Args:
        local: what each client does in a round.
        stragglers: clients that do not get it all done; None for none.

    Reference: McMahan et al. 2017, arXiv:1602.05629
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))
    stragglers: Stragglers | None = None

    def updates(
        self,
        trainer: CohortTrainer,
        start: Start,
        clients: Sequence[int],
        round_number: int,
        streams: Streams,
    ) -> LocalResult:
        """theta_i - theta after each client's local training."""
        plans = [plan_client(trainer.data, client, self.local, round_number, streams) for client in clients]
        if self.stragglers is not None and self.stragglers.handling == "partial":
            slow = self.stragglers.among(clients, round_number, streams)
            plans = [
                plan.first(self.stragglers.steps(client, plan.steps, round_number, streams)) if client in slow else plan
                for client, plan in zip(clients, plans, strict=True)
            ]
        return trainer.train(start, plans, self.local, correction=self.correction())

    def correction(self) -> Correction | None:
        """What joins the clients' gradients; None for nothing."""
        return None

    def heard(self, clients: Sequence[int], round_number: int, streams: Streams) -> list[int]:
        """All of them, unless stragglers are dropped."""
        if self.stragglers is None or self.stragglers.handling != "drop":
            return list(clients)
        slow = self.stragglers.among(clients, round_number, streams)
        return [client for client in clients if client not in slow]

    def fewest(self, clients: int) -> int:
        """All of them, unless stragglers are dropped."""
        if self.stragglers is None or self.stragglers.handling != "drop":
            return clients
        return clients - self.stragglers.count(clients)


def plan_client(
    data: ResidentData, client: int, local: LocalTraining, round_number: int, streams: Streams
) -> BatchPlan:
    """A client's batches in a round, from its own stream, and its noise, from another."""
    rng = streams.numpy("client", client, "round", round_number)
    noise = None if local.private is None else noise_of(local.private, client, round_number, streams)
    return plan_batches(data.clients[client], local, rng, data.image_size, noise=noise)


def noise_of(private: PrivateTraining, client: int, round_number: int, streams: Streams) -> Noise:
    """A client's noise in a round: it depends on the experiment's seed, the client, the round, and how loud it is.

    Runs of one seed with other noise or another bound must not draw the same numbers: they would cancel between them.
    """
    multiplier = private.noise_of(client)
    loud = f"multiplier {multiplier!r}", f"bound {float(private.max_grad_norm)!r}"
    return Noise(multiplier, streams.key("noise", "client", client, "round", round_number, *loud))
