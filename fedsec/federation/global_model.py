"""Federations of one global model: its running statistics, and how it is evaluated."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor, nn

from fedsec.data.datasets import Split
from fedsec.defense import Aggregate
from fedsec.engine.batch_norm import NormStatistics
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.evaluator import Evaluator
from fedsec.federation.personal.client_tests import ClientTests
from fedsec.federation.rounds import RoundLoop, Sampling
from fedsec.federation.selection.selection import Selection
from fedsec.federation.threat import Threat
from fedsec.metrics.evaluation import Evaluation, average, outputs_of
from fedsec.metrics.measure import Measure
from fedsec.seeds import Streams


class GlobalModelLoop(RoundLoop):
    """A federation whose clients share one model, but for the running statistics that `bn: local` leaves with them.

    Args:
        module: the model; its weights are the initial ones and afterwards the current ones.
        trainer: trains cohorts on the clients' data.
        test: the server's test set.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        num_classes: of the data; None for a task without classes.
        bn: what happens to running statistics, see `NormStatistics`.
        measures: further metrics, by name.
        clients_per_round: see `RoundLoop`.
        threat: see `RoundLoop`.
        evaluate_every: see `RoundLoop`.
        sampling: see `RoundLoop`.
        client_tests: test examples of each client's own; None for none.
        selection: see `RoundLoop`.

    Attributes:
        statistics: the global model's running statistics.
        client_statistics: each client's own, under `bn: local`.

    Raises:
        InputError: statistics that cannot be kept so.
    """

    def __init__(
        self,
        module: nn.Module,
        trainer: CohortTrainer,
        test: Split,
        *,
        streams: Streams,
        rounds: int,
        num_classes: int | None,
        bn: NormStatistics = "average",
        measures: Mapping[str, Measure] | None = None,
        clients_per_round: int | None = None,
        threat: Threat | None = None,
        evaluate_every: int = 1,
        sampling: Sampling = "fixed",
        client_tests: ClientTests | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(
            trainer.data,
            streams=streams,
            rounds=rounds,
            clients_per_round=clients_per_round,
            threat=threat,
            evaluate_every=evaluate_every,
            sampling=sampling,
            selection=selection,
        )
        self.client_tests = client_tests
        self.module, self.trainer, self.bn = module.to(trainer.data.device), trainer, bn
        self.evaluator = Evaluator(
            test, trainer, measures=measures, threat=self.threat, streams=streams, num_classes=num_classes
        )
        if bn not in get_args(NormStatistics):
            raise InputError(f"bn must be one of {', '.join(get_args(NormStatistics))}, got {bn!r}")
        if (bn == "reset") != trainer.cumulative:
            raise InputError("bn: reset goes with a cumulative trainer, and only reset does")
        if bn == "recalibrate" and trainer.statistics.buffers:
            name = next(iter(trainer.statistics.buffers))
            raise InputError(
                f"bn: recalibrate finds batch normalization's statistics anew, but not {name!r}, which training also "
                "changes; expected average, local or reset"
            )
        self.statistics = trainer.start(self.module).statistics
        self.client_statistics = self.statistics.repeat(self.num_clients if bn == "local" else 0, 1)

    @property
    @abstractmethod
    def parameters(self) -> Float[Tensor, "parameters"]:
        """Of the global model."""

    @abstractmethod
    def coefficients(self, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        """How much each client counts in an average."""

    def weights(self) -> dict[str, Tensor]:
        self.load(self.statistics)
        weights = dict(self.module.state_dict())
        return {**weights, "client_statistics": self.client_statistics.clone()} if self.bn == "local" else weights

    @property
    def engine(self) -> str:
        used, reason = self.trainer.used or "rows trained before", self.trainer.reason
        return f"{used} ({reason})" if reason else used

    @property
    def num_parameters(self) -> int:
        return self.trainer.layout.size

    def start(self, clients: Sequence[int]) -> Start:
        """What the given clients start the next round from."""
        statistics = self.client_statistics[clients] if self.bn == "local" else self.statistics
        return Start(self.starts(clients), statistics)

    def starts(self, clients: Sequence[int]) -> Float[Tensor, "*clients parameters"]:
        """The parameters that they start from: one vector for all, or a row for each."""
        return self.parameters

    def personal(self, clients: Sequence[int]) -> Float[Tensor, "clients parameters"] | None:
        """The parameters of clients that have models of their own, a row each; None where all share the global one."""
        return None

    def left_with(self, clients: Sequence[int]) -> Start:
        """The models that count for the given clients: their own, where they have some, else the global one."""
        own = self.personal(clients)
        statistics = self.client_statistics[clients] if self.bn == "local" else self.statistics
        return Start(self.parameters if own is None else own, statistics)

    def stated_losses(self, clients: Sequence[int]) -> Float64[np.ndarray, "clients"]:
        """What clients say is their mean loss at what they would start from: Byzantine ones may lie.

        Args:
            clients: with the examples that they have in this round.
        """
        constants, task, compute = self.data.normalization, self.trainer.task, self.trainer.compute
        losses = np.empty(len(clients))
        separate = self.bn == "local" or self.starts(clients[:1]).ndim == 2
        for place, client in enumerate(clients):
            if separate:
                parameters, statistics = self.start([client]).of(0)
                self.load(statistics, parameters)
            inputs, targets = self.data.client_examples(client)
            outputs = outputs_of(self.module, inputs, constants, compute=compute)
            losses[place] = task.losses(outputs, targets).double().mean().item()
        if separate:
            self.load(self.statistics)
        lying = self.threat.in_round(self.round + 1)
        return losses * [self.threat.claimed_loss if client in lying else 1.0 for client in clients]

    def evaluate(self, clients: Sequence[int] | None = None) -> Evaluation:
        """Figures of the current model on the test set; where clients have models of their own, the mean over them.

        Args:
            clients: whose models count, and whose running statistics under `bn: local` and `recalibrate`; by default
                everybody's.
        """
        if self.diverged:
            return self.evaluator.undefined()
        chosen = range(self.num_clients) if clients is None else clients
        if self.bn == "recalibrate" and self.trainer.statistics.size:
            measured = self.trainer.recalibrated(self.parameters, chosen)
            finite = measured.isfinite().all(1)
            if bool(finite.any()):
                self.statistics = _mean(measured[finite], self.coefficients(chosen)[finite])
            self.load(self.statistics)
        if self.own_models:
            return average(self.evaluate_each(chosen))
        return self.evaluator(self.module)

    def evaluate_each(self, clients: Sequence[int]) -> list[Evaluation]:
        """Figures of each client's own model: its parameters, where it has some, and its own running statistics."""
        evaluations, models = [], self.left_with(clients)
        for place in range(len(clients)):
            parameters, statistics = models.of(place)
            self.load(statistics, parameters)
            evaluations.append(self.evaluator(self.module))
        self.load(self.statistics)
        return evaluations

    @property
    def own_models(self) -> bool:
        """Whether clients have models of their own, be it by their running statistics alone."""
        return (self.bn == "local" and bool(self.trainer.statistics.size)) or self.personal([0]) is not None

    def measured(self, evaluation: Evaluation | None) -> dict[str, Any]:
        tests = self.client_tests
        if evaluation is None or tests is None or not tests.due(self.round, self.rounds):
            return super().measured(evaluation)
        return {**super().measured(evaluation), "client_tests": tests.values(self)}

    def _test(self, clients: Sequence[int], heard: Sequence[int]) -> tuple[Evaluation, tuple[float, ...] | None]:
        """Figures after a round; nothing is asked of clients whose updates were rejected.

        Args:
            clients: of the round.
            heard: those of them whose updates were not rejected.
        """
        if self.diverged or not self.own_models:
            return self.evaluate(heard), None
        evaluations = self.evaluate_each(clients)
        primary = self.metric_names[0]
        return self.over_honest(clients, evaluations), tuple(one.metrics[primary] for one in evaluations)

    def load(
        self, statistics: Float[Tensor, "statistics"], parameters: Float[Tensor, "parameters"] | None = None
    ) -> None:
        """Set the module's statistics and its parameters, by default the global ones."""
        self.trainer.layout.load(self.module, self.parameters if parameters is None else parameters)
        self.trainer.statistics.load(self.module, statistics)

    def _settle(
        self,
        trained: Float[Tensor, "clients statistics"],
        clients: Sequence[int],
        coefficients: Float[Tensor, "clients"],
        aggregate: Aggregate,
    ) -> None:
        """Keep the clients' running statistics as `bn` says."""
        if not self.trainer.statistics.size or self.bn == "recalibrate":
            return
        finite = trained.isfinite().all(1)
        finite[list(aggregate.rejected)] = False
        if self.bn == "local":
            settled = [client for client, fine in zip(clients, finite.tolist(), strict=True) if fine]
            self.client_statistics[settled] = trained[finite]
        elif bool(finite.any()):
            self.statistics = _mean(trained[finite], coefficients[finite])


def _mean(rows: Float[Tensor, "clients statistics"], weights: Float[Tensor, "clients"]) -> Tensor:
    shares = weights / weights.sum()
    return (rows * shares[:, None]).sum(0)
