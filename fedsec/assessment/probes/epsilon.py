"""What a formal epsilon is worth: a lower bound by canaries, beside the claim or where there is none."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import Estimate
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.probes.accuracies import shortened
from fedsec.assessment.probes.client_defenses import (
    PRIVATE,
    best_first,
    cost_of,
    epsilon_of,
    private_cells,
    to_try,
)
from fedsec.assessment.probes.probe import AuditProbe, CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.severity import judged
from fedsec.plugins import registry

__all__ = ["EpsilonProbe"]

_CANARIES, _KEY, _FEWEST, _DELTA = 200, "canaries", 20, 1e-5
_SEARCH = {"loss": 0.2, "white_box": 1.0}
"""Seconds a round that scores take, about."""
_CLAIMS = {
    "dp_sgd": ("example", "epsilon"),
    "dp_fedavg": ("client", "user_epsilon"),
    "distributed_dp": ("client", "user_epsilon"),
}
"""Defenses that claim privacy: of what, and in which metric."""


class EpsilonProbe(AuditProbe):
    """Canaries are included by a coin each; who tells them apart bounds epsilon from below."""

    name = "epsilon"
    title = "Epsilon, audited by canaries"
    position = "anybody with the released models: a client, or the server"
    granted = (
        "the final model, and no update of a client; every released model where whole clients are protected",
        "the canaries, half of which take part by a coin that is not known",
        "how clients train, and what noise they add",
    )
    taxonomy = ("differential_privacy",)
    value = 6.0
    score: ClassVar[Literal["loss", "white_box"]] = "loss"
    """By what canary examples are told apart."""

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.takes_images or not deployed.classifies:
            return "canaries are images of classes"
        if not deployed.exchanges_updates:
            return "no clients send updates that a rule aggregates"
        if not deployed.whole_model:
            return "it asks a whole model, and some layers never leave the clients"
        if deployed.train_examples < 4 * _FEWEST:
            return f"there are {deployed.train_examples} examples, and a quarter of them are to be canaries: too few"
        return None

    @staticmethod
    def unit(deployed: Deployment) -> str:
        """Of what privacy is claimed, or asked for: `example` or `client`."""
        return _claim(deployed)[0]

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`. One seed: of several bounds the largest would be picked."""
        unit, metric = _claim(deployed)
        if unit == "client":
            # At a delta as large as few clients have by default, so many canaries could show nothing.
            count = deployed.clients * -(-_CANARIES // (2 * deployed.clients))  # whole clients a round, at any rate
            canaries: dict[str, Any] = {"unit": "client", "count": count, "delta": _DELTA}
        else:
            count = min(_CANARIES, deployed.train_examples // 4)
            canaries = {"unit": "example", "count": count, "client": "all", "score": self.score}
        audit = {"canaries": canaries}
        search = _SEARCH[self.score]
        cells = [ProbeCell((_KEY,), shortened(deployed, effort, deployed.seed, audit=audit), search=search)]
        if metric is not None:  # something formal is claimed: what it is worth is the question, not what else there is
            return cells
        return [*cells, *private_cells(deployed, effort, _KEY, audit, search)]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        outcome = outcomes.of(_KEY).get(deployed.seed)
        about = _about(outcome)
        if outcome is None or about.get("epsilon_lower") is None:
            return []
        unit, metric = _claim(deployed)
        bound, ceiling = float(about["epsilon_lower"]), float(about["ceiling"])
        claim = None if metric is None else _claimed(about)
        count = f"{about['count']} canaries, of which each takes part by a coin of its own"
        power = f"so many could have shown {ceiling:.2f} at most"
        if claim is None:
            measure, effect = "epsilon_bound", Estimate(bound, bound, ceiling)
            sentence = f"{count}, bound epsilon from below by {bound:.2f}; {power}. {_unaccounted(deployed)}"
            null = "no private mechanism has a larger bound than its epsilon, at this confidence"
        else:
            measure, effect = "epsilon_excess", Estimate(bound - claim, bound - claim, ceiling - claim)
            relation = "above" if bound > claim else "below"
            sentence = (
                f"{count}, bound epsilon of one {unit} from below by {bound:.2f}, {relation} the formal {claim:.3g}; "
                f"{power}."
            )
            null = "the formal epsilon, which a sound mechanism exceeds in one of twenty audits at the most"
        severity, why = judged(measure, effect)
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=effect,
                measure=measure,
                null=null,
                why=why,
                tables=(_table(outcome, about, claim),),
                countermeasures=_countermeasures(deployed, outcomes) if claim is None else (),
                notes=(
                    f"At delta {about['delta']:g}, with {about['confidence']:.0%} confidence. A bound of 0 says that "
                    "this attacker showed nothing; a bound below the claim does not say that the claim is right "
                    "(docs/audit.md).",
                ),
                cells=tuple(one.cell.sections for one in outcomes.finished),
            )
        ]


def _about(outcome: CellOutcome | None) -> Mapping[str, Any]:
    return {} if outcome is None else (outcome.record.get("audit") or {}).get("canaries") or {}


def _countermeasures(deployed: Deployment, outcomes: CellOutcomes) -> tuple[Countermeasure, ...]:
    tried = []
    for name, defense in to_try(deployed, [PRIVATE]).items():
        outcome = outcomes.of(_KEY, name).get(deployed.seed)
        about = _about(outcome)
        if outcome is not None and about.get("epsilon_lower") is not None:
            bound, epsilon = float(about["epsilon_lower"]), epsilon_of({deployed.seed: outcome})
            # A bound from below says nothing of what else there is: the formal epsilon does.
            left = Estimate(bound, bound, max(bound, epsilon if epsilon is not None else float(about["ceiling"])))
            cost = cost_of(outcomes, name, deployed)
            tried.append(Countermeasure(name, [*defense, *deployed.rule], left, cost, epsilon))
    return best_first(tried)


def _claim(deployed: Deployment) -> tuple[str, str | None]:
    """Of what privacy is claimed, and the metric that holds the formal epsilon; None where nothing is."""
    for part in deployed.config.defense:
        if part.name in _CLAIMS:
            return _CLAIMS[part.name]
    return "example", None


def _claimed(about: Mapping[str, Any]) -> float | None:
    """The formal epsilon at the delta of the bound; None where it is infinite."""
    value = (about.get("claim") or {}).get("value")
    return None if value is None else float(value)


def _unaccounted(deployed: Deployment) -> str:
    """What is claimed where no epsilon of the whole run is accounted."""
    for part in deployed.config.defense:
        guarantee = str(registry.entry("defense", part.name).traits.get("guarantee") or "")
        kind, _, unit = guarantee.partition(": ")
        if kind.startswith("epsilon"):
            return f"{part.name} claims {kind} of {unit}; no epsilon of the whole run is accounted."
    return "Nothing formal is claimed."


def _table(outcome: CellOutcome, about: Mapping[str, Any], claim: float | None) -> EvidenceTable:
    rows = [
        [
            f"{score}, {method.replace('_', ' ')}",
            f"{bound['epsilon_lower']:.2f}",
            f"{bound['ceiling']:.2f}",
            f"{bound['correct']} of {bound['guesses']}",
        ]
        for score, bounds in about["bounds"].items()
        for method, bound in bounds.items()
    ]
    if claim is not None:
        rows.append(["formal", f"{claim:.3g}", "-", "-"])
    columns = ["scores and assumption", "epsilon at least", "could have shown", "guesses right"]
    return EvidenceTable("Lower bounds of epsilon. 'gaussian dp' assumes a Gaussian mechanism.", columns, rows)
