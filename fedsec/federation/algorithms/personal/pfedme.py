"""pFedMe: the federation minimizes Moreau envelopes, and each client's own model is the envelope's minimizer.

T. Dinh, Tran, Nguyen: Personalized Federated Learning with Moreau Envelopes. NeurIPS 2020, arXiv:2006.08848,
Algorithm 1. Where the paper leaves a choice, or we deviate:

- The paper asks for any delta-approximate minimizer; here each of a client's local rounds takes `inner_steps` steps of
  `local`'s optimizer on one batch, from where its local model stands. (Its authors' code goes on from the personal
  model of the local round before.)
- In the paper all clients train in every round, and some are averaged; here those that are drawn train.
- The paper's beta, which moves the server towards the average, is `server_lr`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
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
from fedsec.federation.algorithms.work import Work


@dataclass(frozen=True)
class PFedMe(StragglingAlgorithm):
    """Local models w_i descend along the gradient lam (w_i - theta_i) of the Moreau envelope of their client's loss.

    In each local round (one batch of `local`) theta_i approximately minimizes f_i(theta) + lam / 2 ||theta - w_i||^2,
    by `inner_steps` steps, and w_i <- w_i - outer_lr lam (w_i - theta_i). Clients send w_i. State: `models`, [clients,
    parameters], each client's last theta_i. With one inner step of plain SGD, w_i takes steps of SGD at the rate
    outer_lr lam lr: federated averaging.

    Args:
        lam: the envelope's, how strongly theta_i is pulled towards w_i.
        inner_steps: K, on each batch.
        outer_lr: eta, the rate of w_i; outer_lr lam beyond 1 would overshoot theta_i.

    Raises:
        InputError: numbers out of range.

    Reference: T. Dinh et al. 2020, arXiv:2006.08848
    """

    lam: float = 15.0
    inner_steps: int = 5
    outer_lr: float = 0.05

    sums_do: ClassVar[bool] = True
    two_models: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lam <= FLOAT32_MAX:
            raise InputError(f"lam must be positive and finite in float32, got {self.lam}")
        if self.inner_steps < 1:
            raise InputError(f"inner_steps must be at least 1, got {self.inner_steps}")
        if not 0 < self.outer_lr * self.lam <= 1:
            raise InputError(
                "outer_lr must be positive, and outer_lr times lam at most 1, so that no local model is carried beyond "
                f"its personal one; got {self.outer_lr} x {self.lam}"
            )

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        return {"parameters": parameters, "models": rows_of_clients(parameters, num_clients).add_(parameters)}

    def personal(self, state: State, clients: Sequence[int]) -> Float[Tensor, "clients parameters"] | None:
        return state["models"][list(clients)]

    def work(self, state: State, participants: Participants) -> Work:
        models = state["models"][list(participants.clients)]
        return _Envelopes(self.plans(participants), self.local, models, self.lam, self.inner_steps, self.outer_lr)

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        if exchange.trained is not None:
            move_rows(state["models"], exchange.clients, exchange.trained.kept["models"])
        return super().apply(state, exchange, aggregates)


@dataclass(frozen=True, eq=False)
class _Envelopes(Work):
    """Local rounds, client by client as many as it has batches.

    Args:
        plans: a batch for each local round.
        local: the inner steps'.
        models: the clients' personal models before.
        lam: see `PFedMe`, like the others.
        inner_steps: on each batch.
        outer_lr: of the local models.
    """

    plans: Sequence[BatchPlan]
    local: LocalTraining
    models: Float[Tensor, "clients parameters"]
    lam: float
    inner_steps: int
    outer_lr: float

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        received = start.parameters
        rows, personal = received.expand(len(clients), -1).clone(), self.models.clone()
        statistics = start.statistics.expand(len(clients), -1).clone()
        pull, examples = Correction(alpha=self.lam), np.zeros(len(clients), np.int64)
        for number in range(max(plan.steps for plan in self.plans)):
            active = [place for place, plan in enumerate(self.plans) if number < plan.steps]
            plans = [_repeated(self.plans[place], number, self.inner_steps) for place in active]
            inner = trainer.train(Start(rows[active], statistics[active]), plans, self.local, correction=pull)
            personal[active] = rows[active] + inner.updates
            rows[active] += self.outer_lr * self.lam * inner.updates
            statistics[active] = inner.statistics
            examples[active] += inner.examples
        return LocalResult(rows - received, statistics, examples, kept={"models": personal - self.models})


def _repeated(plan: BatchPlan, number: int, times: int) -> BatchPlan:
    """One of a plan's batches, several times."""
    size = plan.sizes[number]
    views = None if plan.views is None else np.repeat(plan.views[number : number + 1, :size], times, axis=0)
    draws = None if plan.draws is None else plan.draws ^ number
    examples = np.repeat(plan.examples[number : number + 1, :size], times, axis=0)
    return replace(plan, examples=examples, sizes=np.full(times, size), views=views, draws=draws)
