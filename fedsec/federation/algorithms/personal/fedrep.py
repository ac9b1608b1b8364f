"""FedRep: a client first finds its head for the representation that it received, and then betters the representation.

Collins, Hassani, Mokhtari, Shakkottai: Exploiting Shared Representations for Personalized Federated Learning.
ICML 2021, arXiv:2102.07078, Algorithm 1. Where the paper leaves a choice, or we deviate:

- `local` says how long, and how, the representation is trained; the head takes `head_epochs` passes with the same rate
  and batches, from draws of its own.
- Operations are counted as if every step went through the whole network backwards: a client could save most of that
  while it trains the head.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine.batches import BatchPlan
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.personal.layers import PersonalLayersAlgorithm, last_layers
from fedsec.federation.algorithms.update_algorithm import Participants, State
from fedsec.federation.algorithms.work import Work


@dataclass(frozen=True)
class FedRep(PersonalLayersAlgorithm):
    """Federated averaging of a representation, below heads that never leave the clients.

    Args:
        head_epochs: passes over its examples in which a client trains its head, before it trains the rest as `local`
            says.
        personal_layers: how many layers with weights are the head, from the last one.

    Raises:
        InputError: numbers below 1, weight decay (which would move what a stage holds fast), or, with the model, a head
            that leaves nothing to share.

    Reference: Collins et al. 2021, arXiv:2102.07078
    """

    head_epochs: int = 5
    personal_layers: int = 1

    replayable: ClassVar[bool] = True
    trains_in_turns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("head_epochs", "personal_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.local.weight_decay:
            raise InputError(
                "FedRep trains the head and the rest in turns, and weight decay moves both; expected local "
                f"weight_decay 0, got {self.local.weight_decay}"
            )

    def kept(self, module: nn.Module) -> Iterable[str]:
        return last_layers(module, self.personal_layers)

    def work(self, state: State, participants: Participants) -> Work:
        head = torch.zeros_like(state["parameters"])
        head[state["home"]] = 1
        local = replace(self.local, epochs=self.head_epochs, steps=None)
        streams = participants.streams.branch("head")
        plans = [
            plan_client(participants.data, client, local, participants.round, streams)
            for client in participants.clients
        ]
        return _HeadThenBody(plans, local, self.plans(participants), self.local, head)


@dataclass(frozen=True, eq=False)
class _HeadThenBody(Work):
    """Two stages, each of which holds fast what the other trains.

    Args:
        head_plans: the batches of each client's head.
        head_local: how it is trained.
        plans: the batches of the rest.
        local: how that is trained.
        head: 1 for the head's parameters, 0 for all others.
    """

    head_plans: Sequence[BatchPlan]
    head_local: LocalTraining
    plans: Sequence[BatchPlan]
    local: LocalTraining
    head: Float[Tensor, "parameters"]

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        masks = self.head.expand(len(clients), -1)
        first = trainer.train(start, self.head_plans, self.head_local, correction=Correction(mask=masks))
        between = Start(start.parameters + first.updates, first.statistics)
        second = trainer.train(between, self.plans, self.local, correction=Correction(mask=1 - masks))
        examples = first.examples + second.examples
        return replace(second, updates=first.updates + second.updates, examples=examples)
