"""The federation that exchanges updates: train, send, forge, aggregate, step, evaluate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.datasets import Split
from fedsec.defense import Aggregator, ModelInspector, PrivateAggregator
from fedsec.defense.updates import UpdateTransform
from fedsec.engine.batch_norm import NormStatistics
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError, count_of
from fedsec.federation import saved_state
from fedsec.federation.algorithms.sequential.pretraining import grouped
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, UpdateAlgorithm
from fedsec.federation.broken_conditions import BrokenCondition
from fedsec.federation.client_defenses import ClientDefenses
from fedsec.federation.edge_cost import edge_cost
from fedsec.federation.example_privacy import RunPrivacy
from fedsec.federation.forgery import Forgery
from fedsec.federation.global_model import GlobalModelLoop
from fedsec.federation.inspections import Inspections
from fedsec.federation.large_rounds import LocalRows
from fedsec.federation.loop_guards import check_loop
from fedsec.federation.machines import Machines
from fedsec.federation.personal.client_tests import ClientTests
from fedsec.federation.rounds import RoundResult, Sampling, without
from fedsec.federation.row_exchange import RowExchange
from fedsec.federation.secure_aggregation import SecureAggregation, SumObserver
from fedsec.federation.secure_sums.noise_account import noise_account
from fedsec.federation.secure_sums.row_sums import SumsReport
from fedsec.federation.secure_sums.summed_rounds import widest_grid
from fedsec.federation.selection.idle_round import idle_round
from fedsec.federation.selection.selection import Selection
from fedsec.federation.server_data import ServerData
from fedsec.federation.server_rules import ServerRules, Verdict
from fedsec.federation.threat import Threat, poison_data
from fedsec.federation.user_privacy import Releases
from fedsec.federation.worker_momentum import WorkerMomentum
from fedsec.metrics.measure import Measure
from fedsec.models.costs import module_costs
from fedsec.seeds import Streams

LocalUpdates = Callable[[Start, Sequence[int], int], LocalResult]
Observer = Callable[[int, Sequence[int], Float[Tensor, "clients parameters"]], None]
"""Called with the round, its clients and what the server received, while `module` is still the model that was sent."""


class Federation(GlobalModelLoop):
    """A server, its clients and its threats.

    Args:
        module: the model; its weights are the initial ones and afterwards the current ones.
        trainer: trains cohorts on the clients' data.
        test: the server's test set.
        algorithm: what clients do, what they send, and how the server steps.
        aggregator: how updates become one vector.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        clients_per_round: clients sampled each round without replacement; None for all.
        threat: Byzantine clients; where they corrupt their data, they do so here, unless they have already.
        num_classes: of the data; None for a task without classes.
        evaluate_every: rounds between evaluations; the last round is always evaluated.
        local_updates: replaces the algorithm's local training (used to share it between experiments).
        bn: what happens to running statistics, see `NormStatistics`.
        privacy: the account of private training, from `private_run` along with the algorithm; None where there is none.
        transforms: the clients' defenses of their updates, in order, before anything is sent.
        inspector: what clients ask before they train on a model; None for clients that trust the server.
        sampling: how a round's clients are drawn, see `Sampling`.
        measures: further metrics, by name.
        broken_condition: what happens in a round with too few clients for the rule, see `BrokenCondition`.
        server_data: the server's own, for rules that trust them; None for none.
        memory_gib: what a matrix of a round's rows may take, see `LocalRows`.
        folder: for rows that do not fit.
        exchange: where rows are, if not in this process; replaces both.
        secure_aggregation: of how many clients the server sees sums only; None where it sees each client's update.
        client_tests: test examples of each client's own, see `ClientTests`; None for none.
        selection: a way of drawing a round's clients that need not be fair, in place of `sampling`; None for none.

    Attributes:
        algorithm_state: all that the algorithm carries from round to round, the global model's parameters included.
        statistics: the global model's running statistics.
        client_statistics: each client's own, under `bn: local`.
        costs: of the model: operations of an example.
        attackers: who is Byzantine in the round that is played, or was last.
        exchange: where the rows of rounds are; by default in this process.
        observers: of all that the server receives in a round at once; training does not depend on them.
        row_observers: of what it receives, some clients' rows at a time where rounds are large.
        sums_report: what a simulated protocol of secure aggregation did in the last round; None where there is none.
        sums_grid: the numbers of its sums.
        received_statistics: while observers look, the running statistics that the round's clients sent beside their
            updates, a row each; None where they send none, and between rounds.

    Raises:
        InputError: settings that contradict each other.
    """

    def __init__(
        self,
        module: nn.Module,
        trainer: CohortTrainer,
        test: Split,
        *,
        algorithm: UpdateAlgorithm,
        aggregator: Aggregator,
        streams: Streams,
        rounds: int,
        num_classes: int | None,
        clients_per_round: int | None = None,
        threat: Threat | None = None,
        evaluate_every: int = 1,
        local_updates: LocalUpdates | None = None,
        bn: NormStatistics = "average",
        privacy: RunPrivacy | None = None,
        transforms: Sequence[UpdateTransform] = (),
        inspector: ModelInspector | None = None,
        sampling: Sampling = "fixed",
        measures: Mapping[str, Measure] | None = None,
        broken_condition: BrokenCondition = "stop",
        server_data: ServerData | None = None,
        memory_gib: float | None = None,
        folder: Path | None = None,
        exchange: RowExchange | None = None,
        secure_aggregation: SecureAggregation | None = None,
        client_tests: ClientTests | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(
            module,
            trainer,
            test,
            streams=streams,
            rounds=rounds,
            num_classes=num_classes,
            bn=bn,
            measures=measures,
            clients_per_round=clients_per_round,
            threat=threat,
            evaluate_every=evaluate_every,
            sampling=sampling,
            client_tests=client_tests,
            selection=selection,
        )
        algorithm = algorithm.running(self.num_clients, self.clients_per_round, streams, self.threat)
        self.algorithm, self.aggregator, self.num_classes, self.privacy = algorithm, aggregator, num_classes, privacy
        self.local_updates, self.server_data = local_updates or self.train, server_data
        self.secure_aggregation = secure_aggregation
        self.observers, self.row_observers, self.sum_observers = list[Observer](), list[Observer](), list[SumObserver]()
        self.received_statistics: Float[Tensor, "clients statistics"] | None = None
        described = check_loop(
            self,
            algorithm,
            trainer.task.name,
            rule=aggregator,
            transforms=transforms,
            inspector=inspector,
            private=privacy is not None,
            sampling=sampling,
            selection=selection,
            bn=bn,
            running_statistics=bool(trainer.statistics.size),
            server_data=server_data is not None,
            secure_aggregation=secure_aggregation,
        )
        self.sums_report: SumsReport | None = None
        self.releases: Releases | None = noise_account(described)
        if isinstance(aggregator, PrivateAggregator):
            self.releases = Releases.of_rule(aggregator, self.num_clients, self.clients_per_round, rounds)
        for transform in transforms:
            transform.check_model(module)
        self.client_defenses = ClientDefenses(transforms, trainer.layout, trainer.data, streams)
        self.inspections = Inspections(inspector, module, trainer.layout, trainer.data, trainer.task, streams)
        if privacy is not None:
            privacy.check(algorithm, self.num_clients)
            trainer.private_method(privacy.private.grad_sample_mode)  # raises where the model cannot be private
        poison_data(trainer.data, self.threat, num_classes, streams)
        self.algorithm = algorithm = grouped(self, algorithm)
        self.attackers = self.threat.in_round(1)
        self.rules = ServerRules(aggregator, algorithm.sends, streams, trainer.layout.shapes, broken_condition)
        machines = Machines(trainer, self.training_in, streams, num_classes, self.start)
        self.forgery = Forgery(self.threat.attack, algorithm.sends, streams, machines)
        self.algorithm_state = algorithm.begin(self.module, trainer.start(self.module).parameters, self.num_clients)
        self.sums_grid = None if secure_aggregation is None else widest_grid(self, secure_aggregation)
        self.worker_momentum = WorkerMomentum(algorithm.momentum, self.parameters, self.num_clients)
        self.exchange = exchange or LocalRows(self, memory_gib, folder)
        if algorithm.private is None or algorithm.training is not None:
            trainer.check(algorithm.training, self.exchange.most_rows(self.clients_per_round))
        self.costs = module_costs(module, tuple(self.evaluator.images.shape[1:]))

    @property
    def parameters(self) -> Float[Tensor, "parameters"]:
        """Of the global model."""
        return self.algorithm_state["parameters"]

    @parameters.setter
    def parameters(self, vector: Float[Tensor, "parameters"]) -> None:
        self.algorithm_state = {**self.algorithm_state, "parameters": vector}

    def training_in(self, round_number: int) -> LocalTraining | None:
        """What clients do in a round; None for one full-batch gradient."""
        return self.algorithm.in_round(round_number).training

    def sample(self, round_number: int) -> list[int]:
        arrived = self.algorithm.clients_of(round_number)
        return super().sample(round_number) if arrived is None else arrived

    def starts(self, clients: Sequence[int]) -> Float[Tensor, "*clients parameters"]:
        return self.algorithm.starts(self.algorithm_state, clients)

    def personal(self, clients: Sequence[int]) -> Float[Tensor, "clients parameters"] | None:
        return self.algorithm.personal(self.algorithm_state, clients)

    def conclusion(self) -> Mapping[str, Any]:
        return self.algorithm.conclusion(self.module)

    def state(self) -> dict[str, Tensor]:
        return saved_state.state_of(self)

    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        saved_state.restore(self, state)
        if self.releases is not None:
            self.releases.restore(round_number)
        self.load(self.statistics)
        self.round, self.attackers = round_number, self.threat.in_round(max(1, round_number))
        self.diverged = not bool(self.parameters.isfinite().all())

    def close(self) -> None:
        self.exchange.close()

    def play(self) -> RoundResult:
        """Play one round: `parameters` and `statistics` then hold the new global model.

        Raises:
            AggregationError: the rule cannot work with what the clients sent; names the round and the clients.
            InputError: the privacy budget is spent.
        """
        if self.over:
            why = "its model is no longer finite" if self.diverged else "the privacy budget ends this run"
            raise InputError(f"{why} after {count_of(self.round, 'round')}; `over` says so")
        number = self.round + 1
        self.attackers = self.threat.in_round(number)
        self.data.poison_only(self.attackers)
        self.algorithm_state = self.algorithm.opened(self.algorithm_state, number)
        sampled = self.sample(number)
        heard = self.algorithm.heard(sampled, number, self.streams)
        admitted = heard if self.privacy is None else self.privacy.admitted(heard)
        refused = self.inspections.refused(admitted, self.attackers, self.module, self.parameters, number)
        clients = without(admitted, refused or ())
        if not clients:
            return idle_round(self, sampled, heard, refused)
        drawn = self.rules.generators(number)
        if self.server_data is not None and self.rules.needs_server_update:
            start = Start(self.parameters, self.statistics)
            self.rules.server_update = self.server_data.update(self.algorithm_state, start, number)
        if self.rules.needs_losses:
            self.rules.losses = self.evaluator.client_losses(self.module, clients)
        trained = self.exchange.trained(clients, number)
        # Before anything leaves a client: what goes wrong later does not take back what was sent.
        if self.privacy is not None:
            self.privacy.spend(clients, number, self.streams)
        if self.releases is not None:
            self.releases.spend()
        byzantine = self.byzantine_places(clients)
        coefficients = self.algorithm.counted(self.coefficients(clients), clients, number)
        verdict = self.exchange.judged(trained, clients, byzantine, coefficients, drawn, number)
        self.round, aggregate = number, verdict.aggregates.get("update")
        if aggregate is not None:
            self._step(verdict, trained, clients, coefficients)
        rejected, suspected = ((), None) if aggregate is None else (aggregate.rejected, aggregate.suspected)
        counted = without([*clients], [clients[place] for place in (*rejected, *verdict.lost)])
        evaluation, client_values = self._test(clients, counted) if self.evaluated(number) else (None, None)
        effort = self.forgery.examples
        return RoundResult(
            round=number,
            clients=tuple(clients),
            byzantine=tuple(clients[i] for i in byzantine),
            rejected=tuple(clients[i] for i in rejected),
            influence=(0.0,) * len(clients) if aggregate is None else tuple(aggregate.influence.tolist()),
            **self.measured(evaluation),
            dropped=tuple(without(sampled, heard)),
            client_values=client_values,
            cost=None if self.algorithm.pooled else edge_cost(self, trained, clients),
            spent=tuple(without(heard, admitted)),
            refused=refused,
            **self.spent(),
            diverged=self.diverged,
            time=self.algorithm.time(number),
            attack=dict(self.forgery.report),
            attacker_flops=None if effort is None else effort * self.costs.training_flops,
            suspected=None if suspected is None else tuple(clients[i] for i in suspected),
            withstands=verdict.withstands,
            broken=verdict.broken,
            aggregation_seconds=verdict.seconds,
            secure_sums=None if self.sums_report is None else self.sums_report.as_json(),
        )

    def _step(
        self,
        verdict: Verdict,
        trained: LocalResult,
        clients: Sequence[int],
        coefficients: Float[Tensor, "clients"],
    ) -> None:
        """Go on to the next global model."""
        shares, aggregates = self.shares(clients), verdict.aggregates
        units = None if trained.units is None else self._exaggerated(trained.units, clients)
        rejected = {place for aggregate in aggregates.values() for place in aggregate.rejected}
        shares[sorted(rejected | {*verdict.lost})] = 0
        exchange = Exchange(clients, trained, coefficients.sum().item(), shares, units)
        vectors = {name: aggregate.vector for name, aggregate in aggregates.items()}
        self.forgery.remember(vectors)
        self.algorithm_state = self.algorithm.in_round(self.round).apply(self.algorithm_state, exchange, vectors)
        self.diverged = not bool(self.parameters.isfinite().all())
        self._settle(trained.statistics, clients, coefficients, aggregates["update"])
        self.load(self.statistics)

    @property
    def over(self) -> bool:
        """Whether the model diverged, or the next round's clients (some, or all: `when_spent`) have no privacy left."""
        if self.diverged:
            return True
        if self.privacy is None or self.round >= self.rounds:
            return False
        return self.privacy.ends(self.algorithm.heard(self.sample(self.round + 1), self.round + 1, self.streams))

    @property
    def sends_statistics(self) -> bool:
        """Whether clients send the running statistics that their training led to beside their updates."""
        return self.bn in ("average", "reset") and bool(self.trainer.statistics.size)

    def spent(self) -> dict[str, Any]:
        """What a round's result says of privacy: what was spent of it so far."""
        example = None if self.privacy is None else self.privacy.epsilon().value
        return {"epsilon": example, "user_epsilon": None if self.releases is None else self.releases.epsilon().value}

    def counted_by(self, clients: Sequence[int]) -> tuple[Float[Tensor, "clients"], Float[Tensor, "clients"]]:
        """What the server knows of clients beside their rows: examples as they claim, and their weights in the mean."""
        return self._contributed(clients), self.coefficients(clients)

    def byzantine_places(self, clients: Sequence[int]) -> list[int]:
        """Places of the clients whose rows some Byzantine client has contributed to, or could forge: who sends them."""
        forging = self.forgery.forges
        contributors = ((client,) if forging else self.algorithm.contributors(client) for client in clients)
        return [place for place, known in enumerate(contributors) if not self.attackers.isdisjoint(known)]

    def coefficients(self, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        return self.algorithm.coefficients(self._contributed(clients), self._claimed(range(self.num_clients)))

    def shares(self, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        """Which part of the whole federation each of them is, see `UpdateAlgorithm.shares`."""
        return self.algorithm.shares(self._contributed(clients), self._claimed(range(self.num_clients)))

    def _claimed(self, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        """How many examples the server is told that clients have."""
        return self._exaggerated(torch.from_numpy(self.data.sizes(clients)).to(self.parameters), clients)

    def _contributed(self, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        """The same of all who contribute to what they send."""
        if not self.algorithm.chained:
            return self._claimed(clients)
        return torch.stack([self._claimed(self.algorithm.contributors(client)).sum() for client in clients])

    def _exaggerated(self, numbers: Float[Tensor, "clients"], clients: Sequence[int]) -> Float[Tensor, "clients"]:
        """What clients say of their examples, or of steps on them, where Byzantine ones may lie."""
        if self.threat.claimed_examples == 1:
            return numbers
        lying = torch.tensor([client in self.attackers for client in clients], device=numbers.device)
        return torch.where(lying, numbers * self.threat.claimed_examples, numbers)

    def chunk_size(self, clients: Sequence[int]) -> int:
        """How many of a round's clients train at once."""
        local = self.algorithm.training
        if local is None or local.private is not None:
            return 1
        return self.trainer.chunk_of(len(clients), max(map(local.batch_of, self.data.sizes(clients).tolist())))

    def receive(self, parameters: Float[Tensor, "parameters"], statistics: Float[Tensor, "statistics"]) -> None:
        """Take over the global model of a round that another process leads."""
        self.parameters, self.statistics = parameters, statistics
        self.load(statistics)

    def train(self, start: Start, clients: Sequence[int], round_number: int) -> LocalResult:
        """What a round's clients would send, honestly and undefended.

        Args:
            start: what they start from.
            clients: in the order of the rows.
            round_number: from 1.
        """
        participants = Participants(clients, round_number, self.data, self.streams)
        work = self.algorithm.in_round(round_number).work(self.algorithm_state, participants)
        return work.perform(self.trainer, start, clients)
