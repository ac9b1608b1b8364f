"""Federated SGD: distributed gradient descent.

McMahan et al., AISTATS 2017, arXiv:1602.05629 (the E = 1, B = infinity end of FedAvg); with robust
aggregation it is the gradient-descent algorithm of Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust
Distributed Learning: Towards Optimal Statistical Rates. ICML 2018, arXiv:1803.01498.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.batches import BatchPlan
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.fedavg import noise_of
from fedsec.privacy.private_training import PrivateTraining
from fedsec.seeds import Streams


@dataclass(frozen=True)
class FedSGD(Algorithm):
    """Distributed gradient descent: one full-batch gradient a client and round, stepped with the server's rate.

    Args:
        private: DP-SGD with every example in the batch (sampling rate 1): each one's gradient is clipped, and noise
            joins their sum; None for none.

    Reference: McMahan et al. 2017, arXiv:1602.05629; Yin et al. 2018, arXiv:1803.01498
    """

    private: PrivateTraining | None = None

    def updates(
        self,
        trainer: CohortTrainer,
        start: Start,
        clients: Sequence[int],
        round_number: int,
        streams: Streams,
    ) -> LocalResult:
        """The negative gradient of each client's mean loss at the sent parameters."""
        if self.private is None:
            found = trainer.gradients(start, clients)
        else:
            plans = [self._plan(trainer, client, round_number, streams) for client in clients]
            found = trainer.private_gradients(start, plans, self.private)
        found.updates.neg_()
        return found

    def _plan(self, trainer: CohortTrainer, client: int, round_number: int, streams: Streams) -> BatchPlan:
        assert self.private is not None
        examples = trainer.data.clients[client]
        noise = noise_of(self.private, client, round_number, streams)
        return BatchPlan(examples[None], np.array([len(examples)]), noise=noise, expected=len(examples))

    def step(
        self, start: Float[Tensor, "parameters"], vector: Float[Tensor, "parameters"], total: float
    ) -> Float[Tensor, "parameters"]:
        """As in `Algorithm`; what is averaged are the clients' parameters after a step of `server_lr` each."""
        moved = start + self.server_lr * vector
        return total * moved if self.weighting == "population" else moved
