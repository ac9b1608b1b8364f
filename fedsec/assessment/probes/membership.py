"""Membership: whether the models that clients receive tell who was trained on."""

from collections.abc import Mapping
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import CONFIDENCE, Estimate, difference
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
from fedsec.assessment.severity import judged, rules

__all__ = ["MembershipProbe"]

_MOST, _FEWEST, _RATE, _MEASURE, _KEY = 300, 100, "0.01", "membership_gain", "membership"
_INFERENCES = ("loss_threshold", "trajectory", "lira_offline")
_SHADOWS = 8


class MembershipProbe(AuditProbe):
    """Who sees the global model after every round tells members from non-members of the same clients."""

    name = "membership"
    title = "Membership in the training data"
    position = "clients: one that follows the protocol and sees every global model"
    granted = (
        "the global model after every round",
        "the examples and labels that are asked for",
        "test examples that were surely not trained on, and how clients train (likelihood ratios only)",
    )
    taxonomy = ("membership",)
    value = 7.0

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.classifies:
            return "it asks for losses of classes, and this task predicts numbers"
        if not deployed.exchanges_updates:
            return "no clients send updates that a rule aggregates"
        if not deployed.whole_model:
            return "it asks a whole model, and some layers never leave the clients"
        if deployed.train_examples < 4 * _FEWEST:
            return f"there are {deployed.train_examples} examples, and false alarms of 1% take {4 * _FEWEST}"
        return None

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`. One seed: the interval is about members and non-members."""
        inferences = _INFERENCES if effort.thorough else _INFERENCES[:2]
        number = min(_MOST, deployed.train_examples // 4)
        membership: dict[str, Any] = {
            "inferences": list(inferences),
            "view": "client",
            "members": number,
            "nonmembers": number,
        }
        if effort.thorough:
            membership["shadow_models"] = _SHADOWS
        audit = {"membership": membership, "confidence": 1 - (1 - CONFIDENCE) / len(inferences)}
        sections = shortened(deployed, effort, deployed.seed, audit=audit)
        search = 0.1 + 0.3 * effort.thorough
        return [
            ProbeCell((_KEY,), sections, search=search),
            *private_cells(deployed, effort, _KEY, audit, search),
        ]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        outcome = outcomes.of(_KEY).get(deployed.seed)
        if outcome is None:
            return []
        rates = {name: rate for name, rate in _rates(outcome).items() if rate["is_resolved"]}
        if not rates:
            return []
        gains = {name: _gain(rate) for name, rate in rates.items()}
        levels = rules().levels
        verdicts = {name: judged(_MEASURE, gain) for name, gain in gains.items()}
        worst = min(gains, key=lambda name: (levels.index(verdicts[name][0]), -gains[name].value))
        severity, why = verdicts[worst]
        hits, false = _estimate(rates[worst]["tpr"]), _estimate(rates[worst]["fpr"])
        about = _about(outcome)
        sentence = (
            f"Of {about['members']} members, {worst} finds {hits.value:.1%} at a threshold that takes "
            f"{false.value:.1%} of {about['nonmembers']} non-members for members: {gains[worst].points()} points more."
        )
        if severity == "none":
            sentence += f" A gain of more than {100 * gains[worst].high:.1f} points would have been seen."
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=gains[worst],
                measure=_MEASURE,
                null="false alarms: non-members of the same clients above the same threshold",
                why=why,
                tables=(_table(outcome, gains),),
                countermeasures=_countermeasures(deployed, outcomes),
                notes=(
                    "Members and non-members were drawn at random from the clients' own examples, and the non-members "
                    "held out: nothing but training tells them apart. 'blind' sees no model, and should be at 0.5.",
                    "A federation that trains on fewer examples for longer tells more.",
                ),
                cells=tuple(one.cell.sections for one in outcomes.finished),
            )
        ]


def _countermeasures(deployed: Deployment, outcomes: CellOutcomes) -> tuple[Countermeasure, ...]:
    """What is left to whichever inference then gains most."""
    tried = []
    for name, defense in to_try(deployed, [PRIVATE]).items():
        outcome = outcomes.of(_KEY, name).get(deployed.seed)
        gains = [] if outcome is None else [_gain(rate) for rate in _rates(outcome).values() if rate["is_resolved"]]
        if gains and outcome is not None:
            epsilon = epsilon_of({deployed.seed: outcome})
            left, cost = max(gains, key=lambda gain: gain.value), cost_of(outcomes, name, deployed)
            tried.append(Countermeasure(name, [*defense, *deployed.rule], left, cost, epsilon))
    return best_first(tried)


def _gain(rate: Mapping[str, Any]) -> Estimate:
    """Members found beyond false alarms."""
    return difference(_estimate(rate["tpr"]), _estimate(rate["fpr"]))


def _about(outcome: CellOutcome) -> Mapping[str, Any]:
    return (outcome.record.get("audit") or {}).get("membership") or {}


def _rates(outcome: CellOutcome) -> dict[str, Mapping[str, Any]]:
    """Inference -> its rates at a false positive rate of 1%."""
    inferences = _about(outcome).get("inferences") or {}
    return {name: result["tpr_at"][_RATE] for name, result in inferences.items()}


def _estimate(rate: Mapping[str, Any]) -> Estimate:
    return Estimate(float(rate["value"]), float(rate["low"]), float(rate["high"]))


def _table(outcome: CellOutcome, gains: Mapping[str, Estimate]) -> EvidenceTable:
    about, rows = _about(outcome), []
    for name, gain in gains.items():
        auc = about["inferences"][name]["auc"]
        rates = _rates(outcome)[name]
        rows.append([name, f"{rates['tpr']['value']:.1%}", f"{rates['fpr']['value']:.1%}", gain.points(), _auc(auc)])
    rows.append(["blind", "-", "-", "-", _auc(about["blind_auc"])])
    columns = ["inference", "members found", "false alarms", "more, in points", "AUC"]
    about_it = "Members found at false alarms of 1%; and how well scores tell them apart at all."
    return EvidenceTable(about_it, columns, rows)


def _auc(auc: Mapping[str, Any]) -> str:
    return f"{auc['value']:.2f} [{auc['low']:.2f}..{auc['high']:.2f}]"
