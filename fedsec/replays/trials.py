"""What a rule would have done in the recorded rounds, with the rows as they were and with some of them forged."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Aggregate, PrivateAggregator
from fedsec.errors import AggregationError, InputError
from fedsec.federation.forgery import Forgery
from fedsec.federation.server_rules import ServerRules
from fedsec.recording import RecordedRound, Recording
from fedsec.recording.round_file import ClientId
from fedsec.replays.methods import Candidate
from fedsec.replays.movers import cosine
from fedsec.seeds import Streams
from fedsec.threat import AttackerMachine, UpdatePoisoning

__all__ = ["RuleStep", "RuleTrial"]

Measure = Callable[[RecordedRound, Float[Tensor, "parameters"]], Mapping[str, float]]
"""Metrics of the model that a step from a round's model leads to."""


@dataclass(frozen=True)
class RuleStep:
    """What a rule would have done in one round.

    Attributes:
        defense: how tables call it.
        refused: why it could not do anything; all else is then empty.
        norm: length of its step.
        cosine: of the angle to the step that was taken.
        distance: from the step that was taken, in its lengths.
        influence: what each client contributed, by the order of the round's clients.
        suspected: whom it takes for Byzantine; None of a rule that does not say.
        rejected: whose rows were not finite.
        metrics: of the model that its step leads to, where there is a model and a test.
        damage: of a step with forged rows: its distance from the rule's step with the rows as they were, in lengths of
            that one.
    """

    defense: str
    refused: str | None = None
    norm: float | None = None
    cosine: float | None = None
    distance: float | None = None
    influence: tuple[float, ...] = ()
    suspected: tuple[ClientId, ...] | None = None
    rejected: tuple[ClientId, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    damage: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **vars(self),
            "influence": [round(part, 9) for part in self.influence],
            "suspected": None if self.suspected is None else list(self.suspected),
            "rejected": list(self.rejected),
            "metrics": dict(self.metrics),
        }


class RuleTrial:
    """One rule that sees the rounds in order, and its double that sees them attacked; each has a memory of its own.

    Args:
        candidate: the rule; of one that is refused, every round says why.
        recording: that it is tried on.
        rounds: how many rounds it will see.
        attack: what Byzantine clients would have sent, if anything is asked of it.
        byzantine: who they are.
        streams: of whatever is random.
        numbers: of the clients, for rules that remember them.
    """

    def __init__(
        self,
        candidate: Candidate,
        recording: Recording,
        rounds: int,
        attack: UpdatePoisoning | None,
        byzantine: frozenset[ClientId],
        streams: Streams,
        numbers: Mapping[ClientId, int],
    ) -> None:
        self.label, self.refused = candidate.label, candidate.refused
        self._byzantine, self._numbers = byzantine, numbers
        self._rules: list[ServerRules] = []
        self._forgery = None
        if candidate.rule is None:
            return
        shapes = {name: torch.Size(shape) for name, shape in recording.manifest.shapes().items()}
        for rule in (candidate.rule, *([copy.deepcopy(candidate.rule)] if attack is not None else [])):
            if isinstance(rule, PrivateAggregator):
                num_clients = recording.manifest.num_clients or 1
                cohort = max(listed.clients for listed in recording.manifest.rounds)
                rule.prepare(num_clients, min(1.0, cohort / num_clients), rounds)
            self._rules.append(ServerRules(rule, ("update",), streams, shapes))
        if attack is not None:
            self._forgery = Forgery(copy.deepcopy(attack), ("update",), streams, _no_machines)

    @property
    def remembers(self) -> bool:
        """Whether its next round depends on those before."""
        return any(rules.state() for rules in self._rules[:1])

    def take(
        self,
        seen: RecordedRound,
        weights: Float64[Tensor, "clients"],
        step: Float[Tensor, "parameters"],
        measure: Measure,
    ) -> tuple[RuleStep, RuleStep | None]:
        """What the rule would have done in a round, and what with forged rows, if there is an attack in it.

        Args:
            seen: the round.
            weights: of its clients.
            step: that was taken.
            measure: of models.
        """
        if not self._rules:
            refused = RuleStep(self.label, self.refused)
            return refused, None if self._forgery is None else refused
        clean, vector = self._step(self._rules[0], seen, seen.updates, weights, step, measure)
        if self._forgery is None:
            return clean, None
        try:
            rows = self._forged(seen, weights)
        except (InputError, AggregationError) as error:
            return clean, RuleStep(self.label, str(error))
        attacked, moved = self._step(self._rules[1], seen, rows, weights, step, measure)
        if moved is not None:
            self._forgery.remember({"update": moved})
        if vector is None or moved is None:
            return clean, attacked
        damage = float((moved.double() - vector.double()).norm()) / max(float(vector.double().norm()), 1e-300)
        return clean, replace(attacked, damage=_known(damage))

    @property
    def attack_report(self) -> Mapping[str, float | str]:
        """What the attack has to say of the last round."""
        return {} if self._forgery is None else self._forgery.report

    def _forged(self, seen: RecordedRound, weights: Float64[Tensor, "clients"]) -> Float[Tensor, "clients parameters"]:
        assert self._forgery is not None
        clients = [self._numbers[client] for client in seen.clients]
        places = [place for place, client in enumerate(seen.clients) if client in self._byzantine]
        start = torch.zeros_like(seen.updates[0]) if seen.start is None else seen.start
        relative = weights.to(seen.updates)

        def trial(vector: str, among: Sequence[int], generator: torch.Generator) -> Any:
            return self._rules[1].trial(vector, generator, places=among, weights=relative, clients=clients)

        received = self._forgery(
            {"update": seen.updates}, clients, places, start, seen.number, trial, relative.tolist()
        )
        return received["update"]

    def _step(
        self,
        rules: ServerRules,
        seen: RecordedRound,
        rows: Float[Tensor, "clients parameters"],
        weights: Float64[Tensor, "clients"],
        step: Float[Tensor, "parameters"],
        measure: Measure,
    ) -> tuple[RuleStep, Tensor | None]:
        clients = [self._numbers[client] for client in seen.clients]
        generators = rules.generators(seen.number)
        try:
            verdict = rules({"update": rows}, weights.to(rows), generators, seen.number, clients)
        except (InputError, AggregationError) as error:
            reason = str(error).removeprefix(f"round {seen.number}, clients {clients}: ")
            return RuleStep(self.label, reason), None
        aggregate = verdict.aggregates["update"]
        return self._described(seen, aggregate, step, measure), aggregate.vector

    def _described(
        self, seen: RecordedRound, aggregate: Aggregate, step: Float[Tensor, "parameters"], measure: Measure
    ) -> RuleStep:
        vector, taken = aggregate.vector.double(), step.double()
        length = float(taken.norm())
        suspected = aggregate.suspected
        return RuleStep(
            self.label,
            norm=_known(float(vector.norm())),
            cosine=_known(cosine(vector, taken)),
            distance=_known(float((vector - taken).norm()) / length) if length > 0 else None,
            influence=tuple(aggregate.influence.tolist()),
            suspected=None if suspected is None else tuple(seen.clients[place] for place in suspected),
            rejected=tuple(seen.clients[place] for place in aggregate.rejected),
            metrics=dict(measure(seen, aggregate.vector)),
        )


def _no_machines(clients: Sequence[int], round_number: int) -> Sequence[AttackerMachine]:
    raise InputError("a recording has no machines of clients for an attack to train on")


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
