"""The round loop: send, train, poison, aggregate, step, evaluate."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.datasets import Split
from fedsec.defense import Aggregator
from fedsec.errors import AggregationError, InputError
from fedsec.federation.algorithm import Algorithm
from fedsec.federation.local import CohortTrainer
from fedsec.federation.resident import ResidentData
from fedsec.metrics.classification import Classification, evaluate
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, DataPoisoning, UpdatePoisoning

LocalUpdates = Callable[[Float[Tensor, "parameters"], Sequence[int], int], Float[Tensor, "clients parameters"]]


@dataclass(frozen=True)
class Threat:
    """Who is Byzantine, and what they do.

    Args:
        byzantine: client numbers, drawn once for the whole experiment.
        attack: applied to their data before training, or to their updates before sending; None for none.
    """

    byzantine: frozenset[int] = field(default_factory=frozenset)
    attack: DataPoisoning | UpdatePoisoning | None = None

    @classmethod
    def draw(
        cls, attack: DataPoisoning | UpdatePoisoning | None, num_byzantine: int, num_clients: int, streams: Streams
    ) -> "Threat":
        """Choose the Byzantine clients from the `attack` stream; a smaller number is a subset of a larger one."""
        if not 0 <= num_byzantine < num_clients:
            raise InputError(f"num_byzantine must lie in [0, {num_clients}), got {num_byzantine}")
        order = streams.numpy("attack", "clients").permutation(num_clients)
        return cls(frozenset(order[:num_byzantine].tolist()), attack)


@dataclass(frozen=True)
class RoundResult:
    """What happened in one round.

    Args:
        round: 1 for the first.
        clients: numbers of the clients that took part.
        byzantine: those of them that are Byzantine.
        rejected: those whose update was not finite and was therefore thrown away.
        influence: how much of each client (in the order of `clients`) went into the aggregate; sums to one.
        test: figures on the test set, where this round is evaluated.
    """

    round: int
    clients: tuple[int, ...]
    byzantine: tuple[int, ...]
    rejected: tuple[int, ...]
    influence: tuple[float, ...]
    test: Classification | None


class Federation:
    """A server, its clients and its threats.

    Args:
        module: the model; its weights are the initial ones and afterwards the current ones.
        trainer: trains cohorts on the clients' data.
        test: the server's test set.
        algorithm: what is exchanged and how the server steps.
        aggregator: how updates become one vector.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        clients_per_round: clients sampled each round without replacement; None for all.
        threat: Byzantine clients.
        num_classes: of the data.
        evaluate_every: rounds between evaluations; the last round is always evaluated.
        local_updates: replaces the algorithm's local training (used to share it between experiments).

    Raises:
        InputError: settings that contradict each other.
    """

    def __init__(
        self,
        module: nn.Module,
        trainer: CohortTrainer,
        test: Split,
        *,
        algorithm: Algorithm,
        aggregator: Aggregator,
        streams: Streams,
        rounds: int,
        num_classes: int,
        clients_per_round: int | None = None,
        threat: Threat | None = None,
        evaluate_every: int = 1,
        local_updates: LocalUpdates | None = None,
    ) -> None:
        self.module = module.to(trainer.data.device)
        self.trainer, self.algorithm, self.aggregator, self.streams = trainer, algorithm, aggregator, streams
        self.rounds, self.num_classes, self.evaluate_every = rounds, num_classes, evaluate_every
        self.num_clients = len(trainer.data.clients)
        self.clients_per_round = self.num_clients if clients_per_round is None else clients_per_round
        self.threat = threat or Threat()
        self.test_images, self.test_labels = test.images.to(trainer.data.device), test.labels.to(trainer.data.device)
        self.local_updates = local_updates or self._train
        if rounds < 1 or evaluate_every < 1:
            raise InputError(f"rounds and evaluate_every must be at least 1, got {rounds} and {evaluate_every}")
        if not 1 <= self.clients_per_round <= self.num_clients:
            raise InputError(f"clients_per_round must lie in [1, {self.num_clients}], got {clients_per_round}")
        if algorithm.weighting == "population" and not aggregator.uses_weights:
            raise InputError("weighting population rescales an average; it needs a rule that uses weights (mean)")
        aggregator.max_rejected(self.clients_per_round)  # raises where the rule cannot work with so few clients
        self.parameters = trainer.layout.flatten(self.module)
        self.round = 0

    def restore(self, parameters: Float[Tensor, "parameters"], round_number: int) -> None:
        """Continue after `round_number` finished rounds with the given parameters."""
        self.parameters = parameters.to(self.trainer.data.device)
        self.trainer.layout.load(self.module, self.parameters)
        self.round = round_number

    def run(self) -> Iterator[RoundResult]:
        """Play the remaining rounds, yielding after each; `parameters` then holds the new global model."""
        while self.round < self.rounds:
            yield self.play()

    def play(self) -> RoundResult:
        """Play one round.

        Raises:
            AggregationError: the rule cannot work with what the clients sent; names the round and the clients.
        """
        number = self.round + 1
        clients = self.sample(number)
        rows = self.local_updates(self.parameters, clients, number)
        byzantine = [position for position, client in enumerate(clients) if client in self.threat.byzantine]
        self._poison(rows, byzantine, number)
        data = self.trainer.data
        coefficients = self.algorithm.coefficients(
            _float(data.sizes(clients), rows), _float(data.sizes(range(self.num_clients)), rows)
        )
        try:
            aggregate = self.aggregator.aggregate(rows, coefficients if self.aggregator.uses_weights else None)
        except AggregationError as error:
            raise AggregationError(f"round {number}, clients {clients}: {error}") from error
        self.parameters = self.algorithm.step(self.parameters, aggregate.vector, coefficients.sum().item())
        self.trainer.layout.load(self.module, self.parameters)
        self.round = number
        return RoundResult(
            round=number,
            clients=tuple(clients),
            byzantine=tuple(clients[i] for i in byzantine),
            rejected=tuple(clients[i] for i in aggregate.rejected),
            influence=tuple(aggregate.influence.tolist()),
            test=self.evaluate() if number % self.evaluate_every == 0 or number == self.rounds else None,
        )

    def sample(self, round_number: int) -> list[int]:
        """The clients of a round, in ascending order."""
        return sample_clients(self.num_clients, self.clients_per_round, round_number, self.streams)

    def evaluate(self) -> Classification:
        """Figures of the current global model on the test set."""
        normalization = self.trainer.data.normalization
        return evaluate(self.module, self.test_images, self.test_labels, normalization, self.num_classes)

    def _train(self, start: Tensor, clients: Sequence[int], round_number: int) -> Tensor:
        return self.algorithm.updates(self.trainer, start, clients, round_number, self.streams)

    def _poison(self, rows: Float[Tensor, "clients parameters"], byzantine: list[int], round_number: int) -> None:
        attack = self.threat.attack
        if not byzantine or not isinstance(attack, UpdatePoisoning):
            return
        honest = [i for i in range(len(rows)) if i not in set(byzantine)] if attack.knowledge == "omniscient" else []
        rows[byzantine] = attack.craft(
            AttackerView(
                own=rows[byzantine],
                honest=rows[honest],
                parameters=self.parameters,
                num_clients=len(rows),
                num_byzantine=len(byzantine),
                round=round_number,
                generator=self.streams.torch("attack", "round", round_number),
            )
        )


def sample_clients(num_clients: int, clients_per_round: int, round_number: int, streams: Streams) -> list[int]:
    """The clients of a round, drawn without replacement from the `sampling` stream, in ascending order."""
    if clients_per_round == num_clients:
        return list(range(num_clients))
    rng = streams.numpy("sampling", round_number)
    return sorted(rng.choice(num_clients, clients_per_round, replace=False).tolist())


def poison_data(data: ResidentData, threat: Threat, num_classes: int, streams: Streams) -> None:
    """Let the Byzantine clients corrupt their examples, once, before the first round."""
    if not isinstance(threat.attack, DataPoisoning):
        return
    for client in sorted(threat.byzantine):
        images, labels = data.client_examples(client)
        generator = streams.torch("attack", "client", client)
        new_images, new_labels = threat.attack.poison(images, labels, num_classes=num_classes, generator=generator)
        if new_images is images:
            data.replace_labels(client, new_labels)
        else:
            data.replace_examples(client, new_images, new_labels)


def _float(sizes: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(sizes).to(like)
