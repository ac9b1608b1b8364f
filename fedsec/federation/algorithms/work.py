"""What a round's clients do with the model that they receive, in a form that an engine can carry out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from fedsec.engine.batches import BatchPlan
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.privacy.private_training import PrivateTraining


class Work(ABC):
    """One round's work of its clients."""

    @abstractmethod
    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        """Do it.

        Args:
            trainer: of the federation.
            start: what the clients received.
            clients: of the round.

        Returns:
            What they would send, a row for each client in the order of `clients`.
        """


@dataclass(frozen=True, eq=False)
class LocalStepsWork(Work):
    """Local training; clients send by how much it moved their parameters.

    Args:
        plans: the batches of each client.
        training: what it does with them.
        correction: what joins each step's gradient; None for nothing.
    """

    plans: Sequence[BatchPlan]
    training: LocalTraining
    correction: Correction | None = None

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        return trainer.train(start, self.plans, self.training, correction=self.correction)


@dataclass(frozen=True, eq=False)
class FullGradients(Work):
    """The gradient of each client's mean loss at the parameters received.

    Args:
        draws: the key of what each client's model draws.
    """

    draws: Sequence[int]

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        return trainer.gradients(start, clients, self.draws)


@dataclass(frozen=True, eq=False)
class PrivateWork(Work):
    """Full-batch gradients of clipped examples, with noise.

    Args:
        plans: one batch of all examples for each client, and its noise.
        private: how examples are bounded.
    """

    plans: Sequence[BatchPlan]
    private: PrivateTraining

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        return trainer.private_gradients(start, self.plans, self.private)
