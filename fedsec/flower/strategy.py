"""A Flower strategy whose average is any of fedsec's rules."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from logging import INFO, WARNING
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore import log
from torch import Tensor

from fedsec.defense import Aggregator, Pipeline
from fedsec.defense.states.rules import RuleLike, as_rule
from fedsec.defense.states.statistics import StatisticsChoice
from fedsec.errors import InputError
from fedsec.federation.broken_conditions import BrokenCondition
from fedsec.flower.arrays import record_of, state_of
from fedsec.flower.attackers import Attackers
from fedsec.flower.claims import Claims, Weighting
from fedsec.flower.metrics import averaged_metrics, usable_evaluations
from fedsec.flower.node_verdicts import NodeVerdicts, Report
from fedsec.flower.received import Observer
from fedsec.flower.replies import read_replies
from fedsec.flower.robust_round import RobustRounds, ServerTraining
from fedsec.flower.server_step import checked_strategy, memory, recall, stepped
from fedsec.seeds import Streams
from fedsec.threat import UpdatePoisoning

__all__ = ["RobustStrategy"]

_STEP = "step"


class RobustStrategy(Strategy):
    """Aggregates what Flower's nodes send by a rule that withstands Byzantine ones.

        strategy = RobustStrategy(Median(), fraction_train=0.5)        # in place of FedAvg(fraction_train=0.5)
        strategy = RobustStrategy([NNM(num_byzantine=2), Krum(num_byzantine=2)], strategy=FedAdam(eta=0.01))

    The rule sees updates, each node's model minus the one that was sent to it, and parameters only: running statistics
    of normalization are combined apart, over nodes that the rule did not leave out, and whole numbers such as counters
    stay the server's. What a node sends that cannot be used (other arrays, other shapes, NaN) is that node's own loss;
    Flower's strategies would give up the run. Rules know nodes by their ids, and remember them.

    A strategy of the FedAvg family samples, configures and evaluates as ever. One with a step of its own (FedAvgM,
    FedAdam, FedAdagrad, FedYogi) takes it from the robust aggregate, on parameters alone.

    Where rounds end without a new model, or a rule suspects nodes, the log says so. What was said of each round is in
    `verdicts`, and in the metrics of Flower's `Result`, under names that begin with `fedsec-`.

    Args:
        aggregator: a rule of `fedsec.defenses`, a list of defenses that ends in one, or the name of a rule without
            required options.
        strategy: of the FedAvg family; by default FedAvg with `options`.
        weighting: by the examples that nodes say to have (`examples`, which only the mean and averages of metrics look
            at), or `equal`.
        max_examples: a node that says to have more counts as one with so many.
        statistics: running statistics of the next model: over the nodes that the rule did not leave out, `median` of
            each entry, or `mean`, which a single Byzantine node can make anything; `reference` keeps the server's;
            `auto` is the mean for weighted means (Mean, RLR), reference for private rules, median for all others.
        broken_condition: of rounds with too few replies for the rule: `stop` raises, `skip` leaves the model as it is,
            `relax` lets the rule withstand as many Byzantine nodes as it can with so few.
        attack: on updates; what Byzantine nodes send, who see all the honest updates where the attack is omniscient.
        byzantine_nodes: ids of the nodes that attack, or how many do.
        server_training: what the server's own data make of the model, for rules that trust it (FLTrust).
        seed: of what rules and attacks draw; by default a secret of 128 bits, as private rules need it.
        observers: see each round before it is aggregated; `record` makes one.
        report: whether metrics list node ids, or only how many there are.
        options: of FedAvg, where no strategy is given.

    Attributes:
        verdicts: of all rounds so far, the last one last.

    Raises:
        InputError: options that do not go together; names them.
    """

    def __init__(
        self,
        aggregator: RuleLike,
        *,
        strategy: Strategy | None = None,
        weighting: Weighting = "examples",
        max_examples: float | None = None,
        statistics: StatisticsChoice = "auto",
        broken_condition: BrokenCondition = "stop",
        attack: UpdatePoisoning | None = None,
        byzantine_nodes: int | Collection[int] = (),
        server_training: ServerTraining | None = None,
        seed: int | None = None,
        observers: Sequence[Observer] = (),
        report: Report = "nodes",
        **options: Any,
    ) -> None:
        if strategy is not None and options:
            raise InputError(
                f"RobustStrategy: {', '.join(options)} belong to the default strategy; give them to "
                f"{type(strategy).__name__}"
            )
        if report not in ("nodes", "counts"):
            raise InputError(f"RobustStrategy: report must be nodes or counts, got {report!r}")
        self.strategy = checked_strategy(_fedavg(options) if strategy is None else strategy)
        streams = Streams(secrets.randbits(128) if seed is None else seed)
        self.attackers = Attackers(attack, byzantine_nodes, streams)
        self.report: Report = report
        self.verdicts: list[NodeVerdicts] = []
        self.claims = Claims(weighting, max_examples)
        self._rounds = RobustRounds(
            as_rule(aggregator),
            streams=streams,
            attackers=self.attackers,
            claims=self.claims,
            statistics=statistics,
            broken_condition=broken_condition,
            server_training=server_training,
            observers=tuple(observers),
        )

    @property
    def aggregator(self) -> Aggregator:
        """The rule."""
        return self._rounds.rule

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What is sent to whom, as the wrapped strategy says.

        Raises:
            InputError: the rule could not work with so many nodes, even if all of them replied.
        """
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self.attackers.choose(grid.get_node_ids())
        self._rounds.begin(state_of(arrays, "the model to send"), [one.metadata.dst_node_id for one in messages])
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next model, and the nodes' metrics with what is to be said of the round.

        Raises:
            InputError: too few replies for the rule, where that stops the run, or no reply that goes with the model.
            AggregationError: too few of them are finite.
            DivergenceError: the new model is not.
        """
        answers, failed = read_replies(replies, self.strategy.weighted_by_key)
        log(INFO, "aggregate_train: Received %s results and %s failures", len(answers), len(failed))
        for node, reason in failed.items():
            log(INFO, "\t> Received error in reply from node %d: %s", node, reason)
        aggregated, verdict = self._rounds.end(answers, failed)
        self.verdicts.append(verdict)
        for line in verdict.lines():
            log(WARNING, "fedsec, round %s: %s", verdict.round, line)
        metrics = averaged_metrics(self.strategy, answers, self.claims, verdict)
        metrics.update(verdict.metrics(self.report))
        if aggregated is None:
            return None, metrics
        moved = stepped(self.strategy, verdict.round, aggregated)
        return record_of(self._rounds.with_own_buffers(moved, aggregated)), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As the wrapped strategy says."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """As the wrapped strategy says, of replies that can be averaged; the log names the nodes of all others.

        Byzantine nodes can make an average of metrics whatever they like.
        """
        usable, left_out = usable_evaluations(list(replies), self.strategy.weighted_by_key)
        if left_out:
            log(
                WARNING, "fedsec, evaluation: no use could be made of what came from: %s", ", ".join(map(str, left_out))
            )
        return self.strategy.aggregate_evaluate(server_round, usable)

    def summary(self) -> None:
        """Log what the strategy is made of."""
        log(INFO, "\t├──> Robust rule:")
        log(INFO, "\t│\t├── Aggregator: %s", _described(self.aggregator))
        log(INFO, "\t│\t└── Server step: %s", type(self.strategy).__name__)
        self.strategy.summary()

    def state(self) -> dict[str, Tensor]:
        """All that the next rounds depend on beside the model, by name: to be kept with it, and given to `restore`."""
        return self._rounds.state() | {f"{_STEP}.{name}": held for name, held in memory(self.strategy).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken; before `start`, on a strategy made with the same options and seed.

        Raises:
            InputError: it is not what such a strategy gave.
        """
        tag = f"{_STEP}."
        recall(self.strategy, {name.removeprefix(tag): held for name, held in state.items() if name.startswith(tag)})
        self._rounds.restore({name: held for name, held in state.items() if not name.startswith(tag)})


def _fedavg(options: Mapping[str, Any]) -> FedAvg:
    try:
        return FedAvg(**options)
    except TypeError as error:
        raise InputError(f"RobustStrategy: neither an option of its own nor of FedAvg: {error}") from error


def _described(rule: Aggregator) -> str:
    if isinstance(rule, Pipeline):
        return ", ".join(type(part).__name__ for part in (*rule.transforms, *rule.pre_aggregators, rule.rule))
    return type(rule).__name__
