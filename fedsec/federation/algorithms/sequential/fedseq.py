"""FedSeq: superclients of clients that train one after another, and a server that averages superclients.

Zaccone, Rizzardi, Caldarola, Ciccone, Caputo: Speeding up Heterogeneous Federated Learning with Sequentially Trained
Superclients. ICPR 2022, arXiv:2201.10899. Where the paper leaves a choice, or we deviate:

- Superclients are drawn at random, once for a run, unless `grouping` has each client train for itself first and puts
  clients of unlike classes together (see `pretraining`). All superclients have equally many clients here (the authors'
  code fills them up to so many examples, with a largest number of clients).
- The order within a superclient is drawn anew each round, as the authors do. Each client trains once a round (their
  code can repeat the chain), its optimizer begins anew. Members that drop out of a chain are left out.
- FedSeqInter, which passes superclients' models on to each other and averages seldom, is left out.
- A client hands its model on to the next, which sees it as it is: **a whole model of a single client**, which a server
  of FedAvg would see, and here another client does. The server sees what the superclient made together.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, get_args

from torch import nn

from fedsec.engine.batches import BatchPlan
from fedsec.engine.local_training import LocalTraining, without_worker_momentum
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import LocalStepsAlgorithm
from fedsec.federation.algorithms.sequential.grouping import Grouping
from fedsec.federation.algorithms.sequential.superclients import Position, Superclients
from fedsec.federation.algorithms.update_algorithm import Participants, State
from fedsec.federation.algorithms.work import Work
from fedsec.federation.threat import Threat
from fedsec.seeds import Streams


@dataclass(frozen=True, eq=False)
class ChainWork(Work):
    """Local training one after another; what is sent is by how much a whole chain moved its parameters.

    Args:
        plans: of each place in the chains, the batches of every chain's client there.
        training: what each client does with them.
    """

    plans: Sequence[Sequence[BatchPlan]]
    training: LocalTraining

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        first, *others = self.plans
        moved = trainer.train(start, first, self.training)
        for plans in others:
            received = Start(start.parameters + moved.updates, moved.statistics)
            further = trainer.train(received, plans, self.training)
            moved = replace(
                further, updates=moved.updates + further.updates, examples=moved.examples + further.examples
            )
        return moved


@dataclass(frozen=True)
class FedSeq(LocalStepsAlgorithm):
    """Sequential training: a superclient's clients train one after another, and superclients are averaged.

    The rows that rules see are superclients, each under the number of its last client; they weigh by the examples of
    all members, and a Byzantine member makes its superclient's row Byzantine. So `num_byzantine` clients can spoil as
    many rows, of which there are `superclient` times fewer than clients. `clients_per_round` counts clients.

    Args:
        superclient: clients that train one after another; with 1 this is FedAvg, to the bit.
        grouping: who they are: `greedy` or `kmeans` put clients of unlike classes together, by what networks tell that
            they train alone first; None, or `random`, draws them.
        attackers: where in a chain Byzantine clients stand: as the order is `drawn`, or always `first` or `last`.

    Raises:
        InputError: a size that is none, population weighting, or worker momentum.

    Reference: Zaccone et al. 2022, arXiv:2201.10899
    """

    superclient: int = 2
    grouping: Grouping | None = None
    attackers: Position = "drawn"

    chained: ClassVar[bool] = True

    _superclients: ClassVar[Superclients | None] = None
    _evenness: ClassVar[Mapping[str, float] | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        without_worker_momentum(self.local, "clients of a superclient send nothing of their own")
        if self.weighting == "population":
            raise InputError("weighting must be samples or uniform for superclients, got 'population'")
        if self.superclient < 1:
            raise InputError(f"superclient must be at least 1, got {self.superclient}")
        if self.attackers not in get_args(Position):
            raise InputError(f"attackers must be one of {', '.join(get_args(Position))}, got {self.attackers!r}")

    def running(self, num_clients: int, cohort: int, streams: Streams, threat: Threat) -> Self:
        return self._with(Superclients(num_clients, self.superclient, cohort, streams, threat, self.attackers))

    def with_groups(self, members: Sequence[tuple[int, ...]], evenness: Mapping[str, float]) -> Self:
        """The same with other superclients.

        Args:
            members: of each of them, in ascending order.
            evenness: what is to be said about them in the end, by name.
        """
        return self._with(self.superclients.grouped(members), evenness)

    def in_round(self, round_number: int) -> Self:
        algorithm = super().in_round(round_number)
        return algorithm if algorithm is self else algorithm._with(self._superclients, self._evenness)

    def _with(self, superclients: Superclients | None, evenness: Mapping[str, float] | None = None) -> Self:
        bound = copy.copy(self)
        object.__setattr__(bound, "_superclients", superclients)
        object.__setattr__(bound, "_evenness", evenness)
        return bound

    def conclusion(self, module: nn.Module) -> Mapping[str, Any]:
        if self._evenness is None:
            return {}
        return {"superclients": {**self._evenness, "members": [list(group) for group in self.superclients.members]}}

    @property
    def superclients(self) -> Superclients:
        """Of the federation that it runs in."""
        if self._superclients is None:
            raise RuntimeError("who trains after whom is known within a federation: ask what `running` returns")
        return self._superclients

    def clients_of(self, round_number: int) -> list[int] | None:
        return None if self.superclient == 1 else self.superclients.last(round_number)

    def contributors(self, client: int) -> tuple[int, ...]:
        return self.superclients.of(client)

    def fewest(self, clients: int) -> int:
        return max(1, clients // self.superclient)

    def work(self, state: State, participants: Participants) -> Work:
        chains = [self.superclients.chain(client, participants.round) for client in participants.clients]
        places = zip(*chains, strict=True)
        return ChainWork([self.plans(replace(participants, clients=place)) for place in places], self.local)
