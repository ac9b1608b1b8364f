"""What probes by Byzantine clients that lower the accuracy have in common: attacks by rules, against no attack."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import Estimate
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.probes.accuracies import (
    DEPLOYED,
    accuracy_change,
    baseline_cells,
    clean_key,
    mean_accuracy,
    rules_to_try,
    seeds,
    shortened,
)
from fedsec.assessment.probes.probe import AuditProbe, CellOutcomes, ProbeCell
from fedsec.assessment.severity import judged, rules
from fedsec.errors import count_of

__all__ = ["AccuracyAttack", "AccuracyProbe"]

_MEASURE = "accuracy_loss"


@dataclass(frozen=True)
class AccuracyAttack:
    """One attack of a probe.

    Args:
        label: how tables call it.
        section: of a scenario, without the number of attackers.
        grants: of `severity.yaml`, those that it needs.
        search: seconds that it takes in a round to try a rule that is no mean, about.
    """

    label: str
    section: dict[str, Any]
    grants: tuple[str, ...] = ()
    search: float = 0.0


class AccuracyProbe(AuditProbe):
    """Attacks that lower the accuracy of the global model."""

    position = "clients: a fifth of them"

    @abstractmethod
    def attacks(self, *, thorough: bool) -> Sequence[AccuracyAttack]:
        """Those that are tried, the most telling first."""

    @abstractmethod
    def statement(self, attackers: str, attack: str) -> str:
        """How a sentence about it begins.

        Args:
            attackers: how many of how many.
            attack: its label.
        """

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.classifies:
            return "accuracy is of classes, and this task predicts numbers"
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
                (attack.label, name),
                shortened(
                    deployed,
                    effort,
                    seed,
                    attack={**attack.section, "num_byzantine": deployed.num_byzantine},
                    defense=deployed.with_rule(rule),
                ),
                search=0.0 if rule == ["mean"] else attack.search,
            )
            for seed in seeds(deployed, effort)
            for name, rule in tried.items()
            for attack in self.attacks(thorough=effort.thorough)
        ]
        return [*baseline_cells(deployed, effort, tried), *attacked]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        clean = outcomes.of(*clean_key(DEPLOYED))
        attacks = [attack for attack in self.attacks(thorough=True) if outcomes.of(attack.label, DEPLOYED)]
        losses = {
            attack.label: loss
            for attack in attacks
            if (loss := self._loss(deployed, outcomes, attack.label, DEPLOYED, len(attacks))) is not None
        }
        if not losses:
            return []
        levels, by_label = rules().levels, {attack.label: attack for attack in attacks}
        verdicts = {label: judged(_MEASURE, loss, by_label[label].grants) for label, loss in losses.items()}
        worst = min(losses, key=lambda label: (levels.index(verdicts[label][0]), -losses[label].low))
        severity, why = verdicts[worst]
        attackers = f"{deployed.num_byzantine} of {count_of(deployed.clients, 'client')}"
        before, after = mean_accuracy(clean), mean_accuracy(outcomes.of(worst, DEPLOYED))
        lead = self.statement(attackers, worst)
        sentence = (
            f"{lead} take the accuracy from {before:.1%} to {after:.1%}: "
            f"{losses[worst].points()} points less than without them on the same seeds."
        )
        if severity == "none":
            sentence = (
                f"{lead} did not lower the accuracy beyond chance: from {before:.1%} to {after:.1%}, "
                f"{losses[worst].points()} points less; a loss of more than {100 * losses[worst].high:.1f} points "
                "would have been seen."
            )
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=losses[worst],
                measure=_MEASURE,
                null="the same federation without attackers, on the same seeds",
                why=why,
                tables=(self._table(deployed, outcomes, list(losses)),),
                countermeasures=tuple(self._countermeasures(deployed, outcomes, list(losses))),
                notes=_NOTES,
                cells=tuple(outcome.cell.sections for outcome in outcomes.finished),
            )
        ]

    def _loss(
        self, deployed: Deployment, outcomes: CellOutcomes, attack: str, rule: str, comparisons: int
    ) -> Estimate | None:
        return accuracy_change(
            outcomes.of(*clean_key(rule)), outcomes.of(attack, rule), deployed, comparisons=comparisons
        )

    def _table(self, deployed: Deployment, outcomes: CellOutcomes, attacks: Sequence[str]) -> EvidenceTable:
        tried = [name for name in rules_to_try(deployed, thorough=True) if outcomes.of(*clean_key(name))]
        rows = [["none", *(f"{mean_accuracy(outcomes.of(*clean_key(name))):.1%}" for name in tried)]]
        for attack in attacks:
            row = [attack]
            for name in tried:
                loss = self._loss(deployed, outcomes, attack, name, len(attacks))
                measured = f"{mean_accuracy(outcomes.of(attack, name)):.1%}"
                row.append("-" if loss is None else f"{measured} (-{loss.points()})".replace("(--", "(+"))
            rows.append(row)
        about = "Accuracy by attack and rule of the server; in parentheses the loss in points with its interval."
        return EvidenceTable(about, ["attack", *tried], rows)

    def _countermeasures(
        self, deployed: Deployment, outcomes: CellOutcomes, attacks: Sequence[str]
    ) -> list[Countermeasure]:
        clean = outcomes.of(*clean_key(DEPLOYED))
        tried = []
        for name, rule in rules_to_try(deployed, thorough=True).items():
            losses = [
                loss
                for attack in attacks
                if (loss := self._loss(deployed, outcomes, attack, name, len(attacks))) is not None
            ]
            cost = accuracy_change(outcomes.of(*clean_key(name)), clean, deployed)
            if name != DEPLOYED and losses and cost is not None:
                worst = max(losses, key=lambda loss: loss.value)
                tried.append(Countermeasure(name, deployed.with_rule(rule), worst, cost))
        return sorted(tried, key=lambda one: one.effect.value - (one.cost.value if one.cost else 0.0))


_NOTES = (
    "Accuracies are the worst of the last five evaluated rounds; a model that swings between rounds is as good as its "
    "worst.",
    "The interval reckons with the test set's size (Clopper-Pearson, joined by Newcombe's method, for all attacks "
    "together) and goes from the smallest lower to the largest upper end over seeds.",
)
