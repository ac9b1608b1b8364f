"""Local SGD: few workers on shards of the same data take some steps each, and are averaged, round after round.

Stich: Local SGD Converges Fast and Communicates Little. ICLR 2019, arXiv:1805.09767. Post-local SGD: Lin, Stich, Patel,
Jaggi: Don't Use Large Mini-Batches, Use Local SGD. ICLR 2020, arXiv:1808.07217. What becomes of momentum buffers when
workers are averaged: Wang, Tantia, Ballas, Rabbat: SlowMo. ICLR 2020, arXiv:1910.00643, section 2. Where we deviate:

- Workers count by `weighting`, which is equal for equal shards; the papers' are.
- Averaged buffers are a second vector that each worker sends, aggregated by the server's rule like the first one, and
  that Byzantine workers forge as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.local_training import without_worker_momentum
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import LocalStepsAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, State, move_rows, rows_of_clients
from fedsec.federation.algorithms.work import LocalStepsWork, Work

Buffers = Literal["reset", "average", "keep"]


@dataclass(frozen=True)
class LocalSGD(LocalStepsAlgorithm):
    """Distributed SGD whose workers are averaged after some steps each, one step a round being parallel SGD.

    State: with averaged buffers `momentum`, [parameters]; with kept ones `buffers`, [workers, parameters]; both zero at
    the beginning. With buffers that are reset and no switch it is federated averaging to the bit.

    Args:
        buffers: what becomes of the workers' momentum when a round is over: `reset`, forgotten; `average`, averaged
            like the parameters; `keep`, each worker goes on with its own.
        switch_round: until this round (itself included) workers take a single step a round (parallel SGD), then those
            of `local` (post-local SGD); None for those of `local` from the beginning.

    Raises:
        InputError: settings out of range; buffers without momentum, or worker momentum.

    Reference: Stich 2019, arXiv:1805.09767; Lin et al. 2020, arXiv:1808.07217 (post-local SGD)
    """

    buffers: Buffers = "reset"
    switch_round: int | None = None

    replayable: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buffers not in ("reset", "average", "keep"):
            raise InputError(f"buffers must be reset, average or keep, got {self.buffers!r}")
        if self.switch_round is not None and self.switch_round < 1:
            raise InputError(f"switch_round must be at least 1, or none, got {self.switch_round}")
        if self.buffers != "reset" and not self.local.momentum:
            raise InputError(
                f"buffers: {self.buffers} needs an optimizer with one buffer of momentum; expected local momentum "
                f"above 0 with sgd or lars, got {self.local.optimizer} with {self.local.momentum:g}"
            )
        without_worker_momentum(self.local, "workers of local SGD are averaged as they are")
        if self.buffers == "average":  # what is exchanged depends on an option here
            object.__setattr__(self, "sends", ("update", "momentum"))
            object.__setattr__(self, "broadcasts", ("parameters", "momentum"))

    def in_round(self, round_number: int) -> Self:
        algorithm = super().in_round(round_number)
        if self.switch_round is None or round_number > self.switch_round:
            return algorithm
        return replace(algorithm, local=replace(algorithm.local, steps=1, epochs=None))

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        state = {"parameters": parameters}
        if self.buffers == "average":
            state["momentum"] = torch.zeros_like(parameters)
        if self.buffers == "keep":
            state["buffers"] = rows_of_clients(parameters, num_clients)
        return state

    def work(self, state: State, participants: Participants) -> Work:
        steps = LocalStepsWork(self.plans(participants), self.local)
        if self.buffers == "reset":
            return steps
        workers = list(participants.clients)
        average = self.buffers == "average"
        before = state["momentum"].expand(len(workers), -1) if average else state["buffers"][workers]
        return _Continued(steps, before, self.buffers)

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        if exchange.trained is not None and self.buffers == "keep":
            move_rows(state["buffers"], exchange.clients, exchange.trained.kept["buffers"])
        after = super().apply(state, exchange, aggregates)
        return {**after, "momentum": aggregates["momentum"]} if self.buffers == "average" else after


@dataclass(frozen=True, eq=False)
class _Continued(Work):
    """Local training whose momentum goes on from where it was.

    Args:
        steps: the training.
        before: the workers' buffers, a row each.
        buffers: where they go afterwards.
    """

    steps: LocalStepsWork
    before: Float[Tensor, "clients parameters"]
    buffers: Buffers

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        momentum = self.before.clone()
        trained = trainer.train(start, self.steps.plans, self.steps.training, momentum=momentum)
        if self.buffers == "average":
            return replace(trained, further={"momentum": momentum})
        return replace(trained, kept={"buffers": momentum - self.before})
