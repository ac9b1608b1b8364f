"""Labels: what the deployed clients' updates tell of their classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import CONFIDENCE, Estimate, exact_interval, of_seeds
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.probes.accuracies import DEPLOYED, baseline_cells, clean_key
from fedsec.assessment.probes.client_defenses import (
    NOISE,
    PRIVATE,
    best_first,
    cost_of,
    defended_cells,
    epsilon_of,
    to_try,
)
from fedsec.assessment.probes.probe import AuditProbe, CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.severity import judged
from fedsec.files import read_json
from fedsec.report.evidence.round_lines import round_lines

__all__ = ["LabelsProbe"]

_MEASURE = "labels_gain"


class LabelsProbe(AuditProbe):
    """A curious server reads from the last layer's update how many examples of each class a client has."""

    name = "labels"
    title = "Labels from updates"
    position = "the server, curious: it follows the protocol"
    granted = (
        "what the server receives of the update of one client",
        "the model that it sent",
        "learning rate, number of examples and of steps",
    )
    taxonomy = ("reconstruction", "property")
    value = 5.0

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        return deployed.unread

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`."""
        tried = to_try(deployed, [NOISE, PRIVATE]) if effort.thorough else {}
        return [*baseline_cells(deployed, effort, {DEPLOYED: deployed.rule}), *defended_cells(deployed, effort, tried)]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        observed = {seed: _rounds(outcome) for seed, outcome in outcomes.of(*clean_key(DEPLOYED)).items()}
        rounds = sorted({number for lines in observed.values() for number in lines})
        gains = {number: _of_round(observed, number, len(rounds)) for number in rounds}
        tried = _countermeasures(deployed, outcomes, rounds)
        if not gains:
            return []
        worst = max(gains, key=lambda number: gains[number][0].low)
        gain, right, null, images = gains[worst]
        severity, why = judged(_MEASURE, gain)
        sentence = (
            f"From the {deployed.received('update')} that client 0 sends in round {worst}, a curious server tells "
            f"{right:.1%} of the labels of its {images} examples; guessing by the classes' overall frequencies tells "
            f"{null:.1%}: {gain.points()} points more."
        )
        rows = [
            [f"round {number}", f"{share:.1%}", f"{guess:.1%}", g.points()]
            for number, (g, share, guess, _) in gains.items()
        ]
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=gain,
                measure=_MEASURE,
                null="a guess that has the classes as often as all clients together have them",
                why=why,
                tables=(
                    EvidenceTable(
                        "Labels told, in any order, by round; and what a guess tells.",
                        ["update of", "told", "guess", "more, in points"],
                        rows,
                    ),
                ),
                countermeasures=tried,
                cells=tuple(outcome.cell.sections for outcome in outcomes.finished),
            )
        ]


def _countermeasures(deployed: Deployment, outcomes: CellOutcomes, rounds: Sequence[int]) -> tuple[Countermeasure, ...]:
    """What is left in whichever round then tells most."""
    tried = []
    for name, defense in to_try(deployed, [NOISE, PRIVATE]).items():
        cells = outcomes.of(*clean_key(name))
        observed = {seed: _rounds(outcome) for seed, outcome in cells.items()}
        gains = [
            _of_round(observed, number, len(rounds))[0]
            for number in rounds
            if any(number in lines for lines in observed.values())
        ]
        if gains:
            left, cost = max(gains, key=lambda gain: gain.value), cost_of(outcomes, name, deployed)
            tried.append(Countermeasure(name, [*defense, *deployed.rule], left, cost, epsilon_of(cells)))
    return best_first(tried)


_Told = tuple[Estimate, float, float, int]


def _of_round(observed: Mapping[int, Mapping[int, tuple[float, float, int]]], number: int, comparisons: int) -> _Told:
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    gains, shares, nulls, images = [], [], [], 0
    for lines in observed.values():
        if number in lines:
            share, null, images = lines[number]
            rate = exact_interval(round(share * images), images, confidence)
            gains.append(Estimate(rate.value - null, rate.low - null, rate.high - null))
            shares.append(share)
            nulls.append(null)
    return of_seeds(gains), sum(shares) / len(shares), sum(nulls) / len(nulls), images


def _rounds(outcome: CellOutcome) -> dict[int, tuple[float, float, int]]:
    """Round -> share of labels told, what a guess tells, how many examples."""
    rounds = {}
    null = _guess(outcome)
    for line in round_lines(outcome.folder):
        seen: dict[str, Any] = line.get("leakage") or {}
        share = (seen.get("metrics") or {}).get("label_accuracy")
        if share is not None and null is not None:
            rounds[int(line["round"])] = (float(share), null, int(seen["images"]))
    return rounds


def _guess(outcome: CellOutcome) -> float | None:
    """How much of client 0's classes a guess by the overall frequencies has right."""
    counts = read_json(outcome.folder / "partition.json").get("counts")
    if not counts:
        return None
    overall = [int(sum(column)) for column in zip(*counts, strict=True)]
    own, total = int(sum(counts[0])), sum(overall)
    if not own:
        return None
    right = (min(float(have), own * all_ / total) for have, all_ in zip(counts[0], overall, strict=True))
    return sum(right) / own
