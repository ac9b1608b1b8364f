"""The federation without a server: all clients train, and average with their neighbors."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.defense import Aggregator
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError, count_of
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.update_algorithm import rows_of_clients
from fedsec.federation.evaluator import Evaluator
from fedsec.federation.gossip.asynchronous import Clock
from fedsec.federation.gossip.conditions import NOTHING_TO_COMPARE
from fedsec.federation.gossip.decentralized import Decentralized
from fedsec.federation.gossip.mixing import mixing_matrix, spectral_gap
from fedsec.federation.gossip.neighborhoods import Neighborhoods
from fedsec.federation.loop_guards import check_loop
from fedsec.federation.rounds import EdgeCost, RoundLoop, RoundResult, checked_state
from fedsec.federation.threat import Threat, poison_data
from fedsec.metrics.evaluation import Evaluation
from fedsec.metrics.measure import Measure
from fedsec.models.costs import module_costs
from fedsec.seeds import Streams

CONSENSUS, GAP = "consensus_distance", "spectral_gap"
"""Metrics that only this federation has."""


class GossipFederation(RoundLoop):
    """Clients on a graph, their models and their threats.

    Every client has a model of its own, and all of them are evaluated: `client_values` has each, the metrics are the
    means over honest clients.

    Args:
        module: the model; its weights are what every client starts from.
        trainer: trains cohorts on the clients' data.
        test: the test set.
        algorithm: what clients do, and the graph.
        rule: what each client makes of its neighborhood's models.
        linear: whether that is the weighted mean, see `Neighborhoods`.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        num_classes: of the data; None for a task without classes.
        clients_per_round: all clients or None: nobody is left out of a round.
        threat: Byzantine clients; where they corrupt their data, they do so here, unless they have already.
        evaluate_every: rounds between evaluations; the last round is always evaluated.
        measures: further metrics, by name.

    Attributes:
        models: a row for each client.
        statistics: each client's own running statistics.
        mixing: the mixing matrix.
        gap: its spectral gap.
        clock: plays rounds of clients that exchange at random times; None where all do at once.
        momentum: x~ of such clients, a row each.

    Raises:
        InputError: settings that contradict each other, or no such graph of so many clients.
    """

    def __init__(
        self,
        module: nn.Module,
        trainer: CohortTrainer,
        test: Split,
        *,
        algorithm: Decentralized,
        rule: Aggregator,
        linear: bool,
        streams: Streams,
        rounds: int,
        num_classes: int | None,
        clients_per_round: int | None = None,
        threat: Threat | None = None,
        evaluate_every: int = 1,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        super().__init__(
            trainer.data,
            streams=streams,
            rounds=rounds,
            clients_per_round=clients_per_round,
            threat=threat,
            evaluate_every=evaluate_every,
        )
        check_loop(self, algorithm, trainer.task.name, rule=rule)
        self.mixing = mixing_matrix(algorithm.graph, algorithm.graph.adjacency(self.num_clients, streams))
        self.gap = spectral_gap(self.mixing)
        poison_data(trainer.data, self.threat, num_classes, streams)
        trainer.check(algorithm.local, self.num_clients)
        self.trainer, self.algorithm, self.num_classes = trainer, algorithm, num_classes
        self.module = module.to(trainer.data.device)
        self.evaluator = Evaluator(
            test, trainer, measures=measures, threat=self.threat, streams=streams, num_classes=num_classes
        )
        start = trainer.start(self.module)
        self.models: Float[Tensor, "clients parameters"]
        self.models = rows_of_clients(start.parameters, self.num_clients) + start.parameters
        self.statistics: Float[Tensor, "clients statistics"] = start.statistics.repeat(self.num_clients, 1)
        self.neighborhoods = Neighborhoods(
            self.mixing,
            rule,
            linear=linear,
            attack=self.threat.attack,
            streams=streams,
            shapes=trainer.layout.shapes,
        )
        self.clock = None
        if algorithm.pairwise is not None:
            if not linear:
                raise InputError(f"defense: {NOTHING_TO_COMPARE}")
            self.clock = Clock(algorithm.pairwise, self.neighborhoods, trainer, streams)
        self.momentum: Float[Tensor, "clients parameters"] = self.models.clone()
        self._costs = module_costs(module, tuple(self.evaluator.images.shape[1:]))

    def play(self) -> RoundResult:
        """Play one round: `models` then holds what each client has after its step of gossip.

        Raises:
            AggregationError: a client's rule cannot work with what it received; names the round and the client.
            InputError: the run is over.
        """
        if self.over:
            raise InputError(
                f"an honest client's model is no longer finite after {count_of(self.round, 'round')}; `over` says so"
            )
        number, clients = self.round + 1, range(self.num_clients)
        attackers = self.threat.in_round(number)
        self.data.poison_only(attackers)
        local = self.algorithm.local.in_round(number)
        seconds: float | None = None
        if self.clock is not None:
            happened = self.clock.play(self.models, self.momentum, self.statistics, local, attackers, number)
            mixed, self.momentum, self.statistics = happened.mixed, happened.momentum, happened.statistics
            cost = self._cost(happened.examples.tolist(), 2 * happened.exchanges / self.num_clients)
        else:
            plans = [plan_client(self.data, client, local, number, self.streams) for client in clients]
            trained = self.trainer.train(Start(self.models, self.statistics), plans, local)
            begun = time.perf_counter()
            mixed = self.neighborhoods(self.models + trained.updates, attackers, number)
            if self.models.is_cuda:
                torch.cuda.synchronize(self.models.device)
            seconds, self.statistics = time.perf_counter() - begun, trained.statistics
            cost = self._cost(trained.examples.tolist())
        self.models, self.round = mixed.models, number
        self.diverged = self._diverged(attackers)
        evaluations = self.evaluate_each() if self.evaluated(number) else None
        mean = None if evaluations is None else self.over_honest(clients, evaluations)
        primary = self.metric_names[0]
        return RoundResult(
            round=number,
            clients=tuple(clients),
            byzantine=tuple(sorted(attackers)),
            rejected=tuple(sorted(mixed.rejected)),
            influence=tuple(mixed.influence.tolist()),
            **self.measured(mean),
            client_values=None if evaluations is None else tuple(one.metrics[primary] for one in evaluations),
            cost=cost,
            diverged=self.diverged,
            attack=mixed.report,
            aggregation_seconds=seconds,
        )

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*self.evaluator.metric_names, CONSENSUS, GAP)

    def measured(self, evaluation: Evaluation | None) -> dict[str, Any]:
        if evaluation is not None:
            own = {CONSENSUS: self.consensus_distance(), GAP: self.gap}
            evaluation = Evaluation({**evaluation.metrics, **own}, evaluation.per_class)
        return super().measured(evaluation)

    def consensus_distance(self) -> float:
        """How far honest clients' models are from their mean: sqrt(1 / n sum_i ||x_i - mean||^2)."""
        byzantine = self.threat.in_round(self.round)
        rows = self.models[[client for client in range(self.num_clients) if client not in byzantine]].double()
        return float((rows - rows.mean(0)).square().sum(1).mean().sqrt())

    def evaluate_each(self, clients: Sequence[int] | None = None) -> list[Evaluation]:
        """Figures of each client's model on the test set; by default of all clients."""
        evaluations = []
        for client in range(self.num_clients) if clients is None else clients:
            self.load(client)
            evaluations.append(self.evaluator.undefined() if self.diverged else self.evaluator(self.module))
        return evaluations

    def load(self, client: int) -> None:
        """Let `module` be this client's."""
        self.trainer.layout.load(self.module, self.models[client])
        self.trainer.statistics.load(self.module, self.statistics[client])

    def state(self) -> dict[str, Tensor]:
        return {**self._own_state(), **self.neighborhoods.state()}

    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        remembered = self.neighborhoods.names(state)
        own = {name: tensor for name, tensor in state.items() if name not in remembered}
        restored = checked_state(own, self._own_state())
        self.neighborhoods.restore(state, self.models.device)
        self.models, self.statistics = restored["models"].clone(), restored["statistics"].clone()
        self.momentum = restored.get("momentum", self.models).clone()
        self.round = round_number
        self.diverged = self._diverged(self.threat.in_round(max(1, round_number)))

    def weights(self) -> dict[str, Tensor]:
        """All clients' models as `clients.<name>`, with a row for each."""
        named = {**self.trainer.layout.views(self.models), **self.trainer.statistics.named(self.statistics)}
        return {f"clients.{name}": rows.contiguous() for name, rows in named.items()}

    @property
    def engine(self) -> str:
        used, reason = self.trainer.used or "not trained yet", self.trainer.reason
        return f"{used} ({reason})" if reason else used

    @property
    def num_parameters(self) -> int:
        return self.trainer.layout.size

    def _own_state(self) -> dict[str, Tensor]:
        state = {"models": self.models.clone(), "statistics": self.statistics.clone()}
        return state if self.clock is None else {**state, "momentum": self.momentum.clone()}

    def _diverged(self, attackers: frozenset[int]) -> bool:
        """Whether any honest client's model is no longer finite."""
        honest = [client for client in range(self.num_clients) if client not in attackers]
        return not bool(self.models[honest].isfinite().all())

    def _cost(self, examples: Sequence[int], messages: float | None = None) -> EdgeCost:
        """A client sends its model to each neighbor, or in so many messages on average, and receives as many."""
        if messages is None:
            messages = float(np.mean([len(members) - 1 for members in self.neighborhoods.members]))
        sent = messages * self.trainer.layout.size * self.models.element_size()
        return EdgeCost(sent, sent, float(np.mean(examples)) * self._costs.training_flops)
