"""Ditto: beside the global model each client trains one of its own that is pulled towards it.

Li, Hu, Beirami, Smith: Ditto: Fair and Robust Federated Learning Through Personalization. ICML 2021, arXiv:2012.04221,
Algorithm 1. Where the paper leaves a choice, or we deviate:

- The personal model takes as many steps as the global one, with the same batches, rate and optimizer, and begins with
  the initial model; the paper lets both lengths be chosen.
- With DP-SGD the global model's steps are private and the personal model's are not: it never leaves its client, and
  nothing that is sent depends on it, so the account of what is sent holds. Whoever publishes personal models, or their
  accuracies, publishes what no account covers.
- Clients train twice, and operations count both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from fedsec.engine.batches import BatchPlan
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import FLOAT32_MAX, LocalTraining
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, State, move_rows, rows_of_clients
from fedsec.federation.algorithms.work import LocalStepsWork, Work


@dataclass(frozen=True)
class Ditto(StragglingAlgorithm):
    """Federated averaging, and beside it personal models v_k, which minimize F_k(v) + lam / 2 ||v - w_t||^2.

    State: `models`, [clients, parameters], every v_k. The global model is that of federated averaging to the bit,
    whatever `lam`: attackers and rules meet it as there, and personal models feel them only as far as they are pulled.

    Args:
        lam: how strongly a personal model is pulled towards the global one that its client received; with 0 it is
            trained alone.

    Raises:
        InputError: lam is negative, or float32 cannot hold it.

    Reference: Li et al. 2021, arXiv:2012.04221
    """

    lam: float = 0.1

    private_examples: ClassVar[bool] = True
    private_clients: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    sums_do: ClassVar[bool] = True
    two_models: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lam <= FLOAT32_MAX:
            raise InputError(f"lam must be finite in float32 and not negative, got {self.lam}")

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        return {"parameters": parameters, "models": rows_of_clients(parameters, num_clients).add_(parameters)}

    def personal(self, state: State, clients: Sequence[int]) -> Float[Tensor, "clients parameters"] | None:
        return state["models"][list(clients)]

    def work(self, state: State, participants: Participants) -> Work:
        openly = replace(self, local=replace(self.local, private=None))
        steps = LocalStepsWork(self.plans(participants), self.local)
        models = state["models"][list(participants.clients)]
        return _BesideTheGlobal(steps, models, openly.plans(participants), openly.local, self.lam)

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        if exchange.trained is not None:
            move_rows(state["models"], exchange.clients, exchange.trained.kept["models"])
        return super().apply(state, exchange, aggregates)


@dataclass(frozen=True, eq=False)
class _BesideTheGlobal(Work):
    """Training of the global model, and of personal ones that are pulled towards what was received.

    Args:
        steps: of the global model.
        models: the personal ones, in the order of the clients.
        plans: their batches.
        local: how they are trained.
        lam: how strongly they are pulled.
    """

    steps: LocalStepsWork
    models: Float[Tensor, "clients parameters"]
    plans: Sequence[BatchPlan]
    local: LocalTraining
    lam: float

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        trained = self.steps.perform(trainer, start, clients)
        pull = Correction(alpha=self.lam, center=start.parameters) if self.lam else None
        personal = trainer.train(Start(self.models, start.statistics), self.plans, self.local, correction=pull)
        examples = trained.examples + personal.examples
        return replace(trained, examples=examples, kept={"models": personal.updates})
