"""Sites: whether an update tells which client sent it, against guessing and a permutation null."""

from collections.abc import Mapping
from typing import Any

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
from fedsec.assessment.severity import NONE, judged

__all__ = ["SitesProbe"]

_MEASURE, _KEY, _SIGNIFICANT = "site_gain", "properties", 0.05


class SitesProbe(AuditProbe):
    """A curious server recognizes clients by their updates of other rounds."""

    name = "sites"
    title = "Clients recognized by their updates"
    position = "the server, curious: it follows the protocol"
    granted = ("updates without names", "updates of other rounds with names", "the model that was sent")
    taxonomy = ("property",)
    value = 3.0

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.exchanges_updates or not deployed.classifies:
            return "it reads updates of clients that train on classes"
        if deployed.config.federation.secure_aggregation is not None:
            return "the server sees sums of clients only, and no single updates"
        if deployed.config.cohort < 2 or deployed.rounds < 2:
            return "it tells clients of one round apart by other rounds, and there is one of them"
        return None

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`. One seed: the interval is about clients."""
        audit = {"properties": {"inferences": ["site"]}}
        return [
            ProbeCell((_KEY,), shortened(deployed, effort, deployed.seed, audit=audit), search=0.2),
            *private_cells(deployed, effort, _KEY, audit, 0.2),
        ]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        outcome = outcomes.of(_KEY).get(deployed.seed)
        site = _answer(outcome)
        if outcome is None or site.get("observed") is None:
            return []
        chance, (low, high) = float(site["chance"]), site["interval"]
        effect = _beyond_chance(site)
        severity, why = judged(_MEASURE, effect)
        if site["p"] > _SIGNIFICANT:
            severity, why = NONE, f"permuted names do as well with p = {site['p']:.2g}"
        sentence = (
            f"Of {site['attempts']} updates a curious server tells the client of {site['observed']:.1%} by updates of "
            f"other rounds; guessing tells {chance:.1%}: {effect.points()} points more (permuted names: "
            f"{site['null_mean']:.1%}, p = {site['p']:.2g})."
        )
        rows = [
            ["observed", f"{site['observed']:.1%}", f"[{low:.1%}..{high:.1%}]"],
            ["guessing", f"{chance:.1%}", "-"],
            ["permuted names", f"{site['null_mean']:.1%}", "[{:.1%}..{:.1%}]".format(*site["null_95"])],
        ]
        table = EvidenceTable("Share of updates whose client is told.", ["of", "told", "interval"], rows)
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=effect,
                measure=_MEASURE,
                null="guessing among a round's clients, and permuted names",
                why=why,
                tables=(table,),
                countermeasures=_countermeasures(deployed, outcomes),
                notes=(
                    "It matters where updates are meant to be anonymous, as behind a shuffler; a server that knows "
                    "who sends what learns nothing by it.",
                    "Where the server sees sums of clients only (federation.secure_aggregation) there is no single "
                    "update to recognize.",
                ),
                cells=tuple(one.cell.sections for one in outcomes.finished),
            )
        ]


def _answer(outcome: CellOutcome | None) -> Mapping[str, Any]:
    record = {} if outcome is None else outcome.record.get("audit") or {}
    return (record.get("properties") or {}).get("site") or {}


def _beyond_chance(site: Mapping[str, Any]) -> Estimate:
    chance, (low, high) = float(site["chance"]), site["interval"]
    return Estimate(site["observed"] - chance, low - chance, high - chance)


def _countermeasures(deployed: Deployment, outcomes: CellOutcomes) -> tuple[Countermeasure, ...]:
    tried = []
    for name, defense in to_try(deployed, [PRIVATE]).items():
        outcome = outcomes.of(_KEY, name).get(deployed.seed)
        site = _answer(outcome)
        if outcome is not None and site.get("observed") is not None:
            epsilon = epsilon_of({deployed.seed: outcome})
            left, cost = _beyond_chance(site), cost_of(outcomes, name, deployed)
            tried.append(Countermeasure(name, [*defense, *deployed.rule], left, cost, epsilon))
    return best_first(tried)
