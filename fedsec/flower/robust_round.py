"""One round after another at a server with a robust rule: from nodes' models to the next model and a verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregate, Aggregator, AggregatorTrial, StateLayout
from fedsec.defense.states.statistics import StatisticsChoice, check_choices, combined_statistics
from fedsec.errors import AggregationError, InputError
from fedsec.federation.broken_conditions import BrokenCondition
from fedsec.federation.server_rules import ServerRules
from fedsec.flower.attackers import Attackers
from fedsec.flower.claims import Claims
from fedsec.flower.node_verdicts import NodeVerdicts
from fedsec.flower.nodes import Nodes
from fedsec.flower.received import Observer, Received
from fedsec.flower.releases import NodeReleases, private_rule
from fedsec.flower.replies import Reply
from fedsec.seeds import Streams

__all__ = ["RobustRounds", "ServerTraining"]

ServerTraining = Callable[[int, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Trains the model of a round on the server's own data: takes the round and the model by name, which it leaves
unchanged, and gives the trained model."""


@dataclass(frozen=True, eq=False)
class Sent:
    """A round that has begun.

    Attributes:
        number: of the round.
        state: the model that was sent.
        layout: its parameters, statistics and what else there is.
        row: its parameters.
        nodes: to whom it was sent.
    """

    number: int
    state: dict[str, Tensor]
    layout: StateLayout
    row: Float[Tensor, "parameters"]
    nodes: tuple[int, ...]


class RobustRounds:
    """What a robust strategy does with models and nodes; knows no messages.

    Args:
        rule: of the server.
        streams: of all that is drawn.
        attackers: of the simulation.
        claims: how far nodes' numbers of examples are believed.
        statistics: of normalization; see `StatisticsChoice`, of which `rule` is not offered.
        broken_condition: of rounds with too few replies.
        server_training: for rules that trust the server's own data.
        observers: see each round before the rule does.

    Raises:
        InputError: options that do not go together.
    """

    def __init__(
        self,
        rule: Aggregator,
        *,
        streams: Streams,
        attackers: Attackers,
        claims: Claims,
        statistics: StatisticsChoice = "auto",
        broken_condition: BrokenCondition = "stop",
        server_training: ServerTraining | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        if statistics == "rule":
            raise InputError(
                "RobustStrategy: the rule is not asked twice a round; expected statistics auto, mean, median or "
                "reference"
            )
        if rule.needs_server_update and server_training is None:
            raise InputError(
                f"RobustStrategy: {type(rule).__name__} trusts what the server makes of data of its own; expected "
                "server_training"
            )
        if rule.needs_losses:
            raise InputError(
                f"RobustStrategy: {type(rule).__name__} asks clients for their losses, which nodes do not send; "
                "expected another rule"
            )
        self.rule, self._streams, self._attackers, self._claims = rule, streams, attackers, claims
        self._statistics = check_choices(rule, statistics, "reference")
        self._broken_condition = broken_condition
        self._server_training, self._observers = server_training, observers
        self._private, self._releases, self._charged = private_rule(rule), None, 0
        self._nodes, self._played, self._sent = Nodes(), 0, None
        self._rules_of({})  # refuses a broken_condition that is none

    _releases: NodeReleases | None
    _sent: Sent | None

    def begin(self, state: dict[str, Tensor], nodes: Sequence[int]) -> None:
        """Note what is sent to whom.

        Raises:
            InputError: the model has no parameters, or the rule cannot work with so many nodes.
            DivergenceError: the model holds NaN.
        """
        layout = StateLayout.of(state)
        self._sent = Sent(self._played + 1, state, layout, layout.start(), tuple(nodes))
        if not nodes:
            return
        if self._broken_condition == "stop":
            try:
                self.rule.max_rejected(len(nodes))
            except InputError as error:
                raise InputError(f"RobustStrategy asks {len(nodes)} nodes a round: {error}") from error
        if self._private is not None and self._releases is None:
            self._releases = NodeReleases(self._private, len(nodes))
            self._releases.spend(self._charged)

    def end(self, replies: Sequence[Reply], failed: Mapping[int, str]) -> tuple[dict[str, Tensor] | None, NodeVerdicts]:
        """What becomes of the round's replies.

        Args:
            replies: of a node each.
            failed: node id -> error of those that replied with one.

        Returns:
            The model that the aggregate alone gives, None where it stays as it is; and the verdict.

        Raises:
            InputError: no round has begun, too few replies where that stops the run, or none that goes with the model.
            AggregationError: too few replies are finite.
            DivergenceError: the new model is not.
        """
        sent, self._sent = self._sent, None
        if sent is None:
            raise InputError("RobustStrategy: no model was sent; expected configure_train before aggregate_train")
        self._played = sent.number
        heard = {reply.node for reply in replies} | failed.keys()
        verdict = NodeVerdicts(
            sent.number,
            failed=dict(failed),
            missing=tuple(node for node in sent.nodes if node not in heard),
            epsilon=self._charge(),
        )
        if not replies:
            return None, replace(verdict, broken="no node sent a model" if sent.nodes else "")
        rows, problems = self._rows(replies, sent)
        verdict = replace(verdict, rejected=problems)
        if len(problems) == len(replies) and self._private is None:
            node, problem = next(iter(problems.items()))
            reason = f"none of {len(replies)} replies can be used; node {node}: {problem}"
            if self._broken_condition == "skip":
                return None, replace(verdict, broken=reason)
            raise InputError(f"round {sent.number}: {reason}; expected the model that was sent, trained")
        rows, byzantine = self._forged(rows, replies, sent)
        verdict = replace(
            verdict,
            byzantine=tuple(replies[place].node for place in byzantine),
            attack=dict(self._attackers.forgery.report),
        )
        self._show(rows, byzantine, replies, problems, sent)
        return self._aggregated(rows, replies, problems, sent, verdict)

    def with_own_buffers(self, moved: Mapping[str, Tensor], aggregated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A server step's parameters beside the aggregate's statistics and counters: steps are for parameters alone."""
        layout = StateLayout.of(aggregated)
        trained = {*layout.shapes, *layout.ties}
        return {name: moved[name] if name in trained else tensor for name, tensor in aggregated.items()}

    def state(self) -> dict[str, Tensor]:
        """What the next rounds depend on, by name."""
        state = {"played": torch.tensor(self._played), "nodes": self._nodes.state()}
        if self._attackers.nodes is not None:
            byzantine = Nodes()
            byzantine.numbers(sorted(self._attackers.nodes))
            state["byzantine"] = byzantine.state()
        charged = self._charged if self._releases is None else self._releases.rounds
        state["charged"] = torch.tensor(charged)
        state |= self._rules_of({}).state()
        return state | {f"attack.{name}": held for name, held in self._attackers.forgery.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            InputError: it is not what such rounds gave.
        """
        expected = {"played", "nodes", "charged"}
        if not expected <= state.keys():
            raise InputError(
                f"RobustStrategy: expected what state() gave, which has {sorted(expected)}, got {[*state]}"
            )
        cpu, rules = torch.device("cpu"), self._rules_of({})
        attack = {name.removeprefix("attack."): held for name, held in state.items() if name.startswith("attack.")}
        known = expected | {"byzantine"} | rules.names(state) | {f"attack.{name}" for name in attack}
        if unknown := sorted(state.keys() - known):
            raise InputError(f"RobustStrategy: nothing here remembers {unknown}; expected what state() gave")
        rules.restore(state, cpu)
        self._attackers.forgery.restore(attack, cpu)
        self._nodes.restore(state["nodes"])
        if "byzantine" in state:
            byzantine = Nodes()
            byzantine.restore(state["byzantine"])
            self._attackers.nodes = frozenset(byzantine.ids)
        self._played, self._charged, self._releases = int(state["played"]), int(state["charged"]), None

    def _rules_of(self, shapes: Mapping[str, torch.Size]) -> ServerRules:
        return ServerRules(self.rule, ("update",), self._streams, shapes, self._broken_condition)

    def _charge(self) -> float | None:
        if self._releases is None:
            return None
        self._releases.spend()
        return self._releases.epsilon().value

    def _rows(self, replies: Sequence[Reply], sent: Sent) -> tuple[Float[Tensor, "nodes parameters"], dict[int, str]]:
        """Every reply's update, NaN where it cannot be used, and why by node id."""
        layout, problems = sent.layout, dict[int, str]()
        rows = torch.empty(len(replies), layout.size, dtype=layout.dtype)
        for row, reply, weight in zip(rows, replies, self._claims.weights(replies), strict=True):
            problem = reply.problem
            if not problem:
                try:
                    layout.write_update(row, reply.state or {}, sent.row, who="its reply")
                    layout.statistics_row(reply.state or {}, who="its reply")
                    problem = "; ".join(layout.problems(reply.state or {})[:3])
                except InputError as error:
                    problem = str(error)
            if not problem and self.rule.uses_weights and weight == 0 and reply.num_examples is None:
                problem = "it does not say how many examples it has, by which the rule weighs replies"
            if problem:
                problems[reply.node] = problem
                row.fill_(torch.nan)
        return rows, problems

    def _forged(
        self, rows: Float[Tensor, "nodes parameters"], replies: Sequence[Reply], sent: Sent
    ) -> tuple[Float[Tensor, "nodes parameters"], list[int]]:
        nodes = [reply.node for reply in replies]
        numbers, byzantine = self._nodes.numbers(nodes), self._attackers.places(nodes)
        weights, rules = self._coefficients(replies), self._rules_of(sent.layout.shapes)

        def rule(places: Sequence[int], generator: torch.Generator) -> AggregatorTrial | None:
            return rules.trial("update", generator, places=places, weights=weights, clients=numbers)

        received = self._attackers.forged(rows, numbers, byzantine, sent.row, sent.number, rule, weights.tolist())
        return received, byzantine

    def _coefficients(self, replies: Sequence[Reply]) -> Float[Tensor, "nodes"]:
        weights = torch.tensor(self._claims.weights(replies), dtype=torch.float64)
        return weights / weights.sum() if float(weights.sum()) > 0 else torch.full_like(weights, 1 / len(weights))

    def _show(
        self,
        rows: Float[Tensor, "nodes parameters"],
        byzantine: Sequence[int],
        replies: Sequence[Reply],
        problems: Mapping[int, str],
        sent: Sent,
    ) -> None:
        """Let observers see what the server received."""
        if not self._observers:
            return
        models: dict[int, Mapping[str, Tensor]] = {}
        for place, reply in enumerate(replies):
            if reply.state is None or reply.node in problems:
                continue
            forged = place in byzantine
            moved = sent.layout.entries(sent.row + rows[place], sent.state) if forged else {}
            models[reply.node] = reply.state | moved
        claimed = {reply.node: reply.num_examples for reply in replies if reply.num_examples is not None}
        for observer in self._observers:
            observer(Received(sent.number, sent.state, models, claimed))

    def _aggregated(
        self,
        rows: Float[Tensor, "nodes parameters"],
        replies: Sequence[Reply],
        problems: dict[int, str],
        sent: Sent,
        verdict: NodeVerdicts,
    ) -> tuple[dict[str, Tensor] | None, NodeVerdicts]:
        nodes = [reply.node for reply in replies]
        rules = self._rules_of(sent.layout.shapes)
        if self._server_training is not None and self.rule.needs_server_update:
            trained = self._server_training(sent.number, sent.state)
            rules.server_update = sent.layout.row(trained, who="server_training") - sent.row
        generators, weights = rules.generators(sent.number), self._coefficients(replies)
        try:
            outcome = rules({"update": rows}, weights, generators, sent.number, self._nodes.numbers(nodes))
        except (AggregationError, InputError) as error:
            cause = error.__cause__ or error
            reason = f"{len(nodes)} of {len(sent.nodes)} nodes replied, {len(problems)} were rejected: {cause}"
            if self._broken_condition == "skip":
                return None, replace(verdict, broken=reason)
            raise type(error)(f"round {sent.number}: {reason}") from error
        aggregate = outcome.aggregates.get("update")
        verdict = replace(verdict, withstands=outcome.withstands, broken=outcome.broken)
        if aggregate is None:
            return None, verdict
        self._attackers.forgery.remember({"update": aggregate.vector})
        suspected = aggregate.suspected
        forged_badly = {nodes[place]: "its update holds NaN or infinity" for place in aggregate.rejected}
        verdict = replace(
            verdict,
            influence=dict(zip(nodes, aggregate.influence.tolist(), strict=True)),
            rejected=forged_badly | problems,
            suspected=None if suspected is None else tuple(nodes[place] for place in suspected),
        )
        statistics = self._next_statistics(replies, aggregate, sent)
        return sent.layout.state_dict(sent.layout.moved(sent.row, aggregate.vector), statistics), verdict

    def _next_statistics(self, replies: Sequence[Reply], aggregate: Aggregate, sent: Sent) -> Tensor | None:
        """Of the next model; None for those that were sent."""
        layout = sent.layout
        if self._statistics == "reference" or not layout.statistics:
            return None
        before = layout.statistics_row(sent.state)
        rejected = {*aggregate.rejected}
        block = torch.stack(
            [
                before if place in rejected else layout.statistics_row(reply.state or {})
                for place, reply in enumerate(replies)
            ]
        )
        return before + combined_statistics(self._statistics, block - before, aggregate)
