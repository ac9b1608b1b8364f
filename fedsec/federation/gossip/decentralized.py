"""Decentralized parallel SGD: clients train for themselves, and average with their neighbors.

Lian, Zhang, Zhang, Hsieh, Zhang, Liu: Can Decentralized Algorithms Outperform Centralized Algorithms? A Case Study for
Decentralized Parallel Stochastic Gradient Descent. NeurIPS 2017, arXiv:1705.09056.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from fedsec.engine.local_training import LocalTraining, without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm, Exchanged
from fedsec.federation.gossip.exchanges import Exchanges
from fedsec.federation.gossip.graph import Graph


@dataclass(frozen=True)
class Decentralized(Algorithm):
    """No server: in each round every client trains its own model and averages it with its neighbors' on a graph.

    x_i <- sum_j W_ij (x_j - lr g_j(x_j)), over i itself and its neighbors

    W is symmetric and its rows sum to one, so that a step keeps the mean of all models. Where the paper averages before
    the gradient joins, clients here send what they have trained; both orders have the same analysis there, and this one
    is FedAvg with equal weights where all are neighbors. Unlike in the paper clients may take several local steps.
    Running statistics of batch normalization stay with the clients.

    Args:
        local: how a client trains its own model in a round; the optimizer's state starts afresh each round.
        graph: who is whose neighbor, and by how much they weigh each other.
        pairwise: lets clients train and exchange with one neighbor at random times, see `asynchronous`; None for
            steps of all at once.

    Raises:
        InputError: weights of its own beside exchanges of two.

    Reference: Lian et al., NeurIPS 2017, arXiv:1705.09056; pairwise: Nabli et al., NeurIPS 2023, arXiv:2306.08289
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))
    graph: Graph = field(default_factory=Graph)
    pairwise: Exchanges | None = None

    exchanges: ClassVar[Exchanged] = "models"

    def __post_init__(self) -> None:
        without_worker_momentum(self.local, "clients of Decentralized send models, and no updates")
        if self.pairwise is not None and self.graph.mixing != "metropolis_hastings":
            raise InputError(
                "pairwise: two neighbors count alike in an exchange, whatever a graph's weights; expected no mixing"
            )
