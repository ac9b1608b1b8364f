"""Federated SGD: distributed gradient descent.

McMahan et al., AISTATS 2017, arXiv:1602.05629 (the E = 1, B = infinity end of FedAvg); with robust
aggregation it is the gradient-descent algorithm of Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust
Distributed Learning: Towards Optimal Statistical Rates. ICML 2018, arXiv:1803.01498.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.batches import BatchPlan
from fedsec.engine.local_training import check_worker_momentum
from fedsec.federation.algorithms.local_steps import NOBODY, draws_of, noise_of
from fedsec.federation.algorithms.update_algorithm import Participants, State, UpdateAlgorithm
from fedsec.federation.algorithms.work import FullGradients, PrivateWork, Work
from fedsec.privacy.private_training import PrivateTraining


@dataclass(frozen=True)
class FedSGD(UpdateAlgorithm):
    """Distributed gradient descent: one full-batch gradient a client and round, stepped with the server's rate.

    What clients send is the gradient itself; the server steps against it.

    Args:
        private: DP-SGD with every example in the batch (sampling rate 1): each one's gradient is clipped, and noise
            joins their sum; None for none.
        worker_momentum: beta; clients send the running average m <- beta m + (1 - beta) g of their gradients.

    Raises:
        InputError: numbers out of range.

    Reference: McMahan et al. 2017, arXiv:1602.05629; Yin et al. 2018, arXiv:1803.01498
    """

    private: PrivateTraining | None = None
    worker_momentum: float = 0.0

    replayable: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True
    private_clients: ClassVar[bool] = True
    first_round_alike: ClassVar[bool] = True
    server_trains: ClassVar[bool] = True
    forgets_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_worker_momentum(self.worker_momentum)

    @property
    def momentum(self) -> float:
        return self.worker_momentum

    def work(self, state: State, participants: Participants) -> Work:
        if self.private is None:
            clients, number, streams = participants.clients, participants.round, participants.streams
            return FullGradients([draws_of(client, number, streams) for client in clients])
        plans = [self._plan(self.private, client, participants) for client in participants.clients]
        return PrivateWork(plans, self.private)

    def step(
        self, start: Float[Tensor, "parameters"], vector: Float[Tensor, "parameters"], total: float
    ) -> Float[Tensor, "parameters"]:
        """As in `UpdateAlgorithm`; what is averaged are the clients' parameters after a step of `server_lr` each."""
        moved = start - self.server_lr * vector
        return total * moved if self.weighting == "population" else moved

    def privately(self, private: PrivateTraining) -> Self:
        return replace(self, private=private)

    def batch_and_steps(self, examples: int) -> tuple[int, int]:
        return examples, 1

    def _plan(self, private: PrivateTraining, client: int, participants: Participants) -> BatchPlan:
        examples = participants.data.clients[client]
        noise = noise_of(private, client, participants.round, participants.streams)
        draws = draws_of(client, participants.round, participants.streams)
        plan = BatchPlan(examples[None], np.array([len(examples)]), noise=noise, expected=len(examples), draws=draws)
        return plan.without(participants.data.absent.get(client, NOBODY))
