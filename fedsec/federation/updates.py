"""The federation that exchanges updates: send, train, poison, aggregate, step, evaluate."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.datasets import Split
from fedsec.defense import Aggregate, Aggregator, PrivateAggregator
from fedsec.defense.updates import UpdateTransform
from fedsec.engine.batch_norm import NormStatistics
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import AggregationError, InputError
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.fedavg import FedAvg
from fedsec.federation.client_defenses import Sending, check_sending
from fedsec.federation.example_privacy import RunPrivacy
from fedsec.federation.rounds import EdgeCost, RoundLoop, RoundResult, Sampling, Threat, checked_state
from fedsec.federation.user_privacy import Releases, aggregated, check_threat, tagged, untagged
from fedsec.metrics.classification import Evaluation, average, evaluate
from fedsec.models.costs import module_costs
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, KnowledgePoisoning, UpdatePoisoning

LocalUpdates = Callable[[Start, Sequence[int], int], LocalResult]
Observer = Callable[[int, Sequence[int], Float[Tensor, "clients parameters"]], None]
"""Called with the round, its clients and what the server received, while `module` is still the model that was sent."""


class Federation(RoundLoop):
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
        bn: what happens to running statistics, see `NormStatistics`.
        privacy: the account of private training, from `private_run` along with the algorithm; None where there is none.
        transforms: the clients' defenses of their updates, in order, before anything is sent.
        sampling: how a round's clients are drawn, see `Sampling`.

    Attributes:
        parameters: of the global model.
        statistics: its running statistics.
        client_statistics: each client's own, under `bn: local`.
        observers: of what the server receives; training does not depend on them.

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
        bn: NormStatistics = "average",
        privacy: RunPrivacy | None = None,
        transforms: Sequence[UpdateTransform] = (),
        sampling: Sampling = "fixed",
    ) -> None:
        super().__init__(
            trainer.data,
            streams=streams,
            rounds=rounds,
            clients_per_round=clients_per_round,
            threat=threat,
            evaluate_every=evaluate_every,
            sampling=sampling,
        )
        self.module = module.to(trainer.data.device)
        self.trainer, self.algorithm, self.aggregator = trainer, algorithm, aggregator
        self.num_classes, self.bn, self.privacy = num_classes, bn, privacy
        self.test_images, self.test_labels = test.images.to(trainer.data.device), test.labels.to(trainer.data.device)
        self.local_updates = local_updates or self._train
        self.observers: list[Observer] = []
        if algorithm.weighting == "population" and not aggregator.uses_weights:
            raise InputError("weighting population rescales an average; it needs a rule that uses weights (mean)")
        if isinstance(self.threat.attack, KnowledgePoisoning):
            name = type(self.threat.attack).__name__
            raise InputError(f"{name} poisons knowledge, and {type(algorithm).__name__} exchanges updates")
        if bn not in get_args(NormStatistics):
            raise InputError(f"bn must be one of {', '.join(get_args(NormStatistics))}, got {bn!r}")
        if bn == "local" and aggregator.needs_global_model:
            raise InputError(
                f"bn: local keeps no running statistics at the server, but {type(aggregator).__name__} evaluates the "
                "global model there; expected average, reset or recalibrate"
            )
        if (bn == "reset") != trainer.cumulative:
            raise InputError("bn: reset goes with a cumulative trainer, and only reset does")
        aggregator.max_rejected(algorithm.fewest(self.clients_per_round))  # raises where it cannot work with so few
        self.releases: Releases | None = None
        if isinstance(aggregator, PrivateAggregator):
            leaving = bn != "local" and bool(trainer.statistics.size)
            cohort = self.clients_per_round, rounds, sampling
            slow = algorithm.stragglers if isinstance(algorithm, FedAvg) else None
            check_threat(aggregator, self.threat)
            self.releases = Releases(aggregator, self.num_clients, *cohort, statistics=leaving, stragglers=slow)
        check_sending(transforms, private=privacy is not None)
        for each in transforms:
            each.check_model(module)
        self.sending = Sending(transforms, trainer.layout, trainer.data, streams)
        if privacy is not None:
            privacy.check(algorithm, self.num_clients)
            trainer.private_method(privacy.private.grad_sample_mode)  # raises where the model cannot be private
        start = trainer.start(self.module)
        self.parameters, self.statistics = start.parameters, start.statistics
        held = self.num_clients if bn == "local" else 0
        self.client_statistics = self.statistics.repeat(held, 1)
        self._costs = module_costs(module, tuple(self.test_images.shape[1:]))

    def state(self) -> dict[str, Tensor]:
        return {**self._model_state(), **({} if self.privacy is None else self.privacy.state())}

    def _model_state(self) -> dict[str, Tensor]:
        state = {"parameters": self.parameters, "statistics": self.statistics, **self.sending.state()}
        state |= tagged(self.aggregator.state(), "rule")
        # A copy: rounds write into it, client by client.
        return {**state, "client_statistics": self.client_statistics.clone()} if self.bn == "local" else state

    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        spent = {} if self.privacy is None else {name: state[name] for name in self.privacy.state() if name in state}
        kept = checked_state({name: each for name, each in state.items() if name not in spent}, self._model_state())
        if self.privacy is not None:
            self.privacy.restore(spent)
        self.parameters, self.statistics = kept["parameters"], kept["statistics"]
        self.sending.restore(kept)
        self.aggregator.restore(untagged(kept, "rule"))
        if self.releases is not None:
            self.releases.restore(round_number)
        self.client_statistics = kept.get("client_statistics", self.client_statistics).clone()
        self._load(self.statistics)
        self.round = round_number

    def weights(self) -> dict[str, Tensor]:
        self._load(self.statistics)
        found = dict(self.module.state_dict())
        return {**found, "client_statistics": self.client_statistics.clone()} if self.bn == "local" else found

    @property
    def engine(self) -> str:
        used, reason = self.trainer.used or "rows trained before", self.trainer.reason
        return f"{used} ({reason})" if reason else used

    @property
    def num_parameters(self) -> int:
        return self.trainer.layout.size

    def play(self) -> RoundResult:
        """Play one round: `parameters` and `statistics` then hold the new global model.

        Raises:
            AggregationError: the rule cannot work with what the clients sent; names the round and the clients.
            InputError: the privacy budget is spent.
        """
        if self.over:
            raise InputError(f"the privacy budget ends this run after {self.round} rounds; `over` says so")
        number = self.round + 1
        sampled = self.sample(number)
        heard = self.algorithm.heard(sampled, number, self.streams)
        clients = heard if self.privacy is None else self.privacy.admitted(heard)
        if not clients:
            return self._idle(sampled, heard)
        drawn = self._generator(number)
        result = self.local_updates(self.start(clients), clients, number)
        rows = result.updates
        # Before anything leaves a client: what goes wrong later does not take back what was sent.
        if self.privacy is not None:
            self.privacy.spend(clients, number, self.streams)
        if self.releases is not None:
            self.releases.spend()
        self.sending(rows, clients, number, self.module)
        byzantine = [position for position, client in enumerate(clients) if client in self.threat.byzantine]
        self._poison(rows, byzantine, number)
        for observer in self.observers:
            observer(number, clients, rows)
        coefficients = self._coefficients(clients)
        try:
            aggregate = aggregated(self.aggregator, rows, coefficients, drawn)
        except AggregationError as error:
            raise AggregationError(f"round {number}, clients {clients}: {error}") from error
        self.parameters = self.algorithm.step(self.parameters, aggregate.vector, coefficients.sum().item())
        self._settle(result.statistics, clients, coefficients, aggregate)
        self._load(self.statistics)
        self.round = number
        rejected = set(aggregate.rejected)
        counted = [client for place, client in enumerate(clients) if place not in rejected]
        evaluation, client_values = self._test(clients, counted) if self.evaluated(number) else (None, None)
        return RoundResult(
            round=number,
            clients=tuple(clients),
            byzantine=tuple(clients[i] for i in byzantine),
            rejected=tuple(clients[i] for i in aggregate.rejected),
            influence=tuple(aggregate.influence.tolist()),
            **self.measured(evaluation),
            dropped=tuple(client for client in sampled if client not in set(heard)),
            client_values=client_values,
            cost=None if self.algorithm.pooled else self._cost(result, clients, number),
            spent=tuple(client for client in heard if client not in set(clients)),
            epsilon=self._epsilon(),
            user_epsilon=self._user_epsilon(),
        )

    @property
    def over(self) -> bool:
        """Whether the next round's clients (some, or all there are: `when_spent`) have no privacy budget for it."""
        if self.privacy is None or self.round >= self.rounds:
            return False
        return self.privacy.ends(self.algorithm.heard(self.sample(self.round + 1), self.round + 1, self.streams))

    def evaluated(self, round_number: int) -> bool:
        """Whether a round ends with an evaluation: one that turns out to be the last one does."""
        return super().evaluated(round_number) or (round_number == self.round and self.over)

    def _epsilon(self) -> float | None:
        return None if self.privacy is None else self.privacy.epsilon().value

    def _user_epsilon(self) -> float | None:
        return None if self.releases is None else self.releases.epsilon().value

    def _generator(self, round_number: int) -> torch.Generator | None:
        rule, name = self.aggregator, ("noise", "server", "round", round_number)
        if isinstance(rule, PrivateAggregator):
            return self.streams.noise(*name, *rule.stream())
        return self.streams.torch(*name) if rule.draws else None

    def _idle(self, sampled: Sequence[int], heard: Sequence[int]) -> RoundResult:
        """A round in which nobody takes part, for lack of privacy budget or by chance: the model stays as it is.

        But for noise, where that nobody took part is nobody's business.
        """
        self.round += 1
        if isinstance(self.aggregator, PrivateAggregator) and self.releases is not None:
            drawn = self._generator(self.round)
            assert drawn is not None
            self.releases.spend()
            self.parameters = self.algorithm.step(self.parameters, self.aggregator.nobody(self.parameters, drawn), 1.0)
            self._load(self.statistics)
        evaluation = self.evaluate() if self.evaluated(self.round) else None
        return RoundResult(
            round=self.round,
            clients=(),
            byzantine=(),
            rejected=(),
            influence=(),
            **self.measured(evaluation),
            dropped=tuple(client for client in sampled if client not in set(heard)),
            spent=tuple(heard),
            epsilon=self._epsilon(),
            user_epsilon=self._user_epsilon(),
        )

    def start(self, clients: Sequence[int]) -> Start:
        """What the given clients start the next round from."""
        return Start(self.parameters, self.client_statistics[clients] if self.bn == "local" else self.statistics)

    def evaluate(self, clients: Sequence[int] | None = None) -> Evaluation:
        """Figures of the current global model on the test set.

        Args:
            clients: whose running statistics count under `bn: local` and `recalibrate`; by default everybody's.
        """
        chosen = range(self.num_clients) if clients is None else clients
        if not self.trainer.statistics.size:
            return self._classify()
        if self.bn == "local":
            return average(self.evaluate_each(chosen))
        if self.bn == "recalibrate":
            found = self.trainer.recalibrated(self.parameters, chosen)
            finite = found.isfinite().all(1)
            if bool(finite.any()):
                self.statistics = _mean(found[finite], self._coefficients(chosen)[finite])
            self._load(self.statistics)
        return self._classify()

    def evaluate_each(self, clients: Sequence[int]) -> list[Evaluation]:
        """Figures of the current parameters with each client's own running statistics, as `bn: local` keeps them."""
        each = []
        for client in clients:
            self._load(self.client_statistics[client])
            each.append(self._classify())
        self._load(self.statistics)
        return each

    def _test(self, clients: Sequence[int], heard: Sequence[int]) -> tuple[Evaluation, tuple[float, ...] | None]:
        """Figures after a round; nothing is asked of clients whose updates were rejected.

        Args:
            clients: of the round.
            heard: those of them whose updates were not rejected.
        """
        if self.bn != "local" or not self.trainer.statistics.size:
            return self.evaluate(heard), None
        each = self.evaluate_each(clients)
        return self.over_honest(clients, each), tuple(one.metrics[self.metric_names[0]] for one in each)

    def _coefficients(self, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        sizes, population = self.data.sizes(clients), self.data.sizes(range(self.num_clients))
        return self.algorithm.coefficients(_float(sizes, self.parameters), _float(population, self.parameters))

    def _classify(self) -> Evaluation:
        return evaluate(
            self.module,
            self.test_images,
            self.test_labels,
            self.data.normalization,
            self.num_classes,
            compute=self.trainer.compute,
        )

    def _train(self, start: Start, clients: Sequence[int], round_number: int) -> LocalResult:
        return self.algorithm.updates(self.trainer, start, clients, round_number, self.streams)

    def _load(self, statistics: Float[Tensor, "statistics"]) -> None:
        self.trainer.layout.load(self.module, self.parameters)
        self.trainer.statistics.load(self.module, statistics)

    def _settle(
        self,
        found: Float[Tensor, "clients statistics"],
        clients: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        aggregate: Aggregate,
    ) -> None:
        """Keep the clients' running statistics as `bn` says."""
        if not self.trainer.statistics.size or self.bn == "recalibrate":
            return
        finite = found.isfinite().all(1)
        finite[list(aggregate.rejected)] = False
        if self.bn == "local":
            kept = [client for client, fine in zip(clients, finite.tolist(), strict=True) if fine]
            self.client_statistics[kept] = found[finite]
        elif bool(finite.any()):
            self.statistics = _mean(found[finite], coefficients[finite])

    def _cost(self, result: LocalResult, clients: Sequence[int], round_number: int) -> EdgeCost:
        number = self.parameters.element_size()
        exchanged = self.parameters.numel() + (self.statistics.numel() if self.bn in ("average", "reset") else 0)
        up = down = exchanged * number
        flops = fmean(result.examples.tolist()) * self._costs.training_flops
        if self.bn == "recalibrate" and self.statistics.numel() and self.evaluated(round_number):
            # The new model comes, the client's images pass through it once, and their statistics go.
            down, up = down + self.parameters.numel() * number, up + self.statistics.numel() * number
            flops += fmean(self.data.sizes(clients).tolist()) * self._costs.forward_flops
        return EdgeCost(up, down, flops)

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


def _mean(rows: Float[Tensor, "clients statistics"], weights: Float[Tensor, "clients"]) -> Tensor:
    shares = weights / weights.sum()
    return (rows * shares[:, None]).sum(0)


def _float(sizes: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(sizes).to(like)
