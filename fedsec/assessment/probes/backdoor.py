"""A backdoor: whatever carries the attackers' trigger is taken for the class they want."""

from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import CONFIDENCE, Estimate, difference, of_seeds
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.probes.accuracies import (
    DEPLOYED,
    accuracy_change,
    baseline_cells,
    clean_key,
    mean_accuracy,
    rate_of,
    rules_to_try,
    seeds,
    shortened,
)
from fedsec.assessment.probes.probe import AuditProbe, CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.severity import judged
from fedsec.errors import count_of

__all__ = ["BackdoorProbe"]

_TARGET, _RATE, _MEASURE = 0, "attack_success_rate", "attack_success_gain"
_NULL = "unattacked"


class BackdoorProbe(AuditProbe):
    """A fifth of the clients train on images with a trigger beside honest ones, and enlarge their updates."""

    name = "backdoor"
    title = "Backdoor by a trigger"
    position = "clients: a fifth of them"
    granted = (
        "their own training data, a third of which they mark",
        "how many clients there are, by which they enlarge their updates",
        "nothing of what other clients send",
    )
    taxonomy = ("backdoor",)
    value = 8.0

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.takes_images or not deployed.classifies:
            return "a trigger is put into images of classes, and these data are none"
        if not deployed.exchanges_updates:
            return "no clients send updates that a rule aggregates"
        if deployed.clients < 2:
            return "there is one client, so that none attacks the others"
        return None

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`."""
        tried = rules_to_try(deployed, thorough=effort.thorough)
        attacked = [
            ProbeCell(
                (key, name),
                shortened(
                    deployed,
                    effort,
                    seed,
                    attack={**_attack(deployed), "num_byzantine": count},
                    defense=deployed.with_rule(rule),
                ),
            )
            for seed in seeds(deployed, effort)
            for name, rule in tried.items()
            for key, count in ((self.name, deployed.num_byzantine), (_NULL, 0))
            if key != _NULL or name == DEPLOYED
        ]
        return [*baseline_cells(deployed, effort, tried), *attacked]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        null, attacked = outcomes.of(_NULL, DEPLOYED), outcomes.of(self.name, DEPLOYED)
        gain = _gain(attacked, null, deployed)
        if gain is None:
            return []
        severity, why = judged(_MEASURE, gain)
        attackers = f"{deployed.num_byzantine} of {count_of(deployed.clients, 'client')}"
        clean = outcomes.of(*clean_key(DEPLOYED))
        sentence = (
            f"{attackers} bring the model to take {_mean(attacked):.1%} of images with their trigger for class "
            f"{_TARGET}; a model that nobody attacked takes {_mean(null):.1%}: {gain.points()} points more. The "
            f"accuracy on clean images is {mean_accuracy(attacked):.1%}, {mean_accuracy(clean):.1%} without attackers."
        )
        if severity == "none":
            sentence += f" A gain of more than {100 * gain.high:.1f} points would have been seen."
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=gain,
                measure=_MEASURE,
                null="the same trigger on the model of the same federation without attackers",
                why=why,
                tables=(_table(self.name, deployed, outcomes),),
                countermeasures=tuple(_countermeasures(self.name, deployed, outcomes)),
                notes=("One trigger was tried, a square of bright pixels; others may do better, or be harder to see.",),
                cells=tuple(outcome.cell.sections for outcome in outcomes.finished),
            )
        ]


def _attack(deployed: Deployment) -> dict[str, Any]:
    side = min(deployed.survey.input_shape[1:])
    boost = float(max(1, deployed.config.cohort // max(1, deployed.byzantine_in_round)))
    return {
        "name": "backdoor",
        "target": _TARGET,
        "size": max(2, side // 8),
        "poisoned_fraction": 0.3,
        "boost": boost,
    }


def _gain(one: dict[int, CellOutcome], other: dict[int, CellOutcome], deployed: Deployment) -> Estimate | None:
    gains = []
    for seed in sorted(one.keys() & other.keys()):
        # The test is on images of all other classes.
        examples = max(1, round(deployed.test_examples * (1 - 1 / max(2, deployed.survey.num_classes))))
        rates = [rate_of(outcomes[seed], _RATE, examples, CONFIDENCE) for outcomes in (one, other)]
        if rates[0] is not None and rates[1] is not None:
            gains.append(difference(rates[0], rates[1]))
    return of_seeds(gains) if gains else None


def _mean(outcomes: dict[int, CellOutcome]) -> float:
    values = [value for outcome in outcomes.values() if (value := outcome.metric(_RATE)) is not None]
    return sum(values) / len(values) if values else float("nan")


def _table(name: str, deployed: Deployment, outcomes: CellOutcomes) -> EvidenceTable:
    rows = []
    for rule in rules_to_try(deployed, thorough=True):
        attacked = outcomes.of(name, rule)
        if attacked:
            clean = mean_accuracy(outcomes.of(*clean_key(rule)))
            rows.append([rule, f"{_mean(attacked):.1%}", f"{mean_accuracy(attacked):.1%}", f"{clean:.1%}"])
    columns = ["rule of the server", "trigger obeyed", "accuracy under attack", "accuracy without"]
    return EvidenceTable("How often the trigger decides, and what else it costs, by rule of the server.", columns, rows)


def _countermeasures(name: str, deployed: Deployment, outcomes: CellOutcomes) -> list[Countermeasure]:
    clean, null = outcomes.of(*clean_key(DEPLOYED)), outcomes.of(_NULL, DEPLOYED)
    tried = []
    for rule, setting in rules_to_try(deployed, thorough=True).items():
        left = _gain(outcomes.of(name, rule), null, deployed)
        cost = accuracy_change(outcomes.of(*clean_key(rule)), clean, deployed)
        if rule != DEPLOYED and left is not None and cost is not None:
            tried.append(Countermeasure(rule, deployed.with_rule(setting), left, cost))
    return sorted(tried, key=lambda one: one.effect.value - (one.cost.value if one.cost else 0.0))
