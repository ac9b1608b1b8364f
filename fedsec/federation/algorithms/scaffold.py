"""SCAFFOLD: control variates against the drift of clients that hold different data.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning.
ICML 2020, arXiv:1910.06378, Algorithm 1. Where the paper leaves a choice, or we deviate:

- The paper averages all clients alike; here `weighting` says how they count, the default being that of all algorithms
  here, by examples. The server's variate stays the weighted mean of the clients', with `uniform` the paper's.
- Clients send two vectors, the update and by how much their variate changed; both count as upload, and the server's
  variate as download. The server's rule aggregates each of the two by itself, and Byzantine clients forge both.
- A Byzantine client goes on with the variate that its own training left; so does one that the server rejects, whose
  change the server's variate leaves out. One whose training was not finite keeps the variate that it had.
- With DP-SGD the correction joins after the noise. Under option II all that is sent, and each variate, is computed from
  private updates, so the account holds; option I looks at all examples once more, and is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.correction import Correction, rows_at
from fedsec.engine.local_training import without_worker_momentum
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, State, move_rows, rows_of_clients
from fedsec.federation.algorithms.work import FullGradients, LocalStepsWork, Work

Option = Literal["I", "II"]


@dataclass(frozen=True)
class Scaffold(StragglingAlgorithm):
    """Stochastic controlled averaging: each local step is corrected by c - c_i, the server's and its own variate.

    State: `variate`, c; `variates`, [clients, parameters], every client's c_i; both zero at the beginning.

    Args:
        option: how a client renews its variate. `I`: the gradient of all its examples at the model that it received,
            one more pass over them; `II`: what its steps went along on average, c_i - c + (x - y_i) / (K lr).

    Raises:
        InputError: an optimizer other than SGD, worker momentum, or a momentum under option II, which the mean of the
            steps leaves out.

    Reference: Karimireddy et al. 2020, arXiv:1910.06378
    """

    option: Option = "II"

    sends: ClassVar[tuple[str, ...]] = ("update", "variate")
    broadcasts: ClassVar[tuple[str, ...]] = ("parameters", "variate")
    private_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.option not in ("I", "II"):
            raise InputError(f"option must be I or II, got {self.option!r}")
        if self.local.optimizer != "sgd":
            raise InputError(
                f"SCAFFOLD corrects the steps of SGD; expected local optimizer sgd, got {self.local.optimizer}"
            )
        without_worker_momentum(self.local, "SCAFFOLD's variates go with the updates of a single round")
        if self.local.momentum and self.option == "II":
            raise InputError(
                "SCAFFOLD's option II reads the mean gradient off the update, which momentum scales; expected local "
                f"momentum 0 or option I, got momentum {self.local.momentum}"
            )

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        variates = rows_of_clients(parameters, num_clients)
        return {"parameters": parameters, "variate": torch.zeros_like(parameters), "variates": variates}

    def work(self, state: State, participants: Participants) -> Work:
        clients, number, streams = participants.clients, participants.round, participants.streams
        own, common = rows_at(state["variates"], clients), state["variate"]
        steps = LocalStepsWork(self.plans(participants), self.local, Correction(shift=common - own))
        if self.option == "II":
            return _ControlledSteps(steps, common)
        keys = [streams.key("client", client, "round", number, "model", "variate") for client in clients]
        return _RenewingSteps(steps, common, own, FullGradients(keys))

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        if exchange.trained is not None:
            move_rows(state["variates"], exchange.clients, exchange.trained.further["variate"])
        # |S| / N under uniform weighting: those who did not take part keep their variates.
        variate = state["variate"] + exchange.share.sum() * aggregates["variate"]
        return {**super().apply(state, exchange, aggregates), "variate": variate}

    @property
    def private_problem(self) -> str:
        if self.option == "I":
            return "its option I sends gradients without noise; expected option II"
        return super().private_problem


@dataclass(frozen=True, eq=False)
class _ControlledSteps(Work):
    """Corrected local steps, and what they make of the clients' variates: option II.

    Args:
        steps: with their correction.
        common: the server's variate.
    """

    steps: LocalStepsWork
    common: Float[Tensor, "parameters"]

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        trained = self.steps.perform(trainer, start, clients)
        lengths = torch.tensor([plan.steps * self.steps.training.lr for plan in self.steps.plans])
        gone = trained.updates / lengths.to(trained.updates)[:, None]
        return replace(trained, further={"variate": torch.sub(-self.common, gone, out=gone)})


@dataclass(frozen=True, eq=False)
class _RenewingSteps(_ControlledSteps):
    """The same, and variates that become gradients at the model received: option I.

    Args:
        own: the clients' variates before.
        gradients: of all their examples.
    """

    own: Float[Tensor, "clients parameters"]
    gradients: FullGradients

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        trained = self.steps.perform(trainer, start, clients)
        renewed = self.gradients.perform(trainer, start, clients)
        examples = trained.examples + renewed.examples
        changes = renewed.updates.sub_(self.own)
        return replace(trained, examples=examples, further={"variate": changes})
