"""A malicious server: what one client of the deployed size gives away to a model that was made for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import Estimate, exact_interval
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.probes.accuracies import DEPLOYED, baseline_cells, clean_key, seeds
from fedsec.assessment.probes.client_defenses import (
    INSPECT_MODEL,
    PRIVATE,
    best_first,
    cost_of,
    defended_cells,
    epsilon_of,
    pace_of,
    to_try,
)
from fedsec.assessment.probes.leakage import RecoveredImages
from fedsec.assessment.probes.probe import AuditProbe, CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.severity import NONE, judged
from fedsec.errors import count_of
from fedsec.report.evidence.reconstructions import observed_images, telling
from fedsec.report.evidence.round_lines import round_lines

__all__ = ["MaliciousServerProbe"]

_MEASURE, _KEY = "recovered_images", "imprint"
_GRANTS = ("chooses_architecture",)


class MaliciousServerProbe(AuditProbe):
    """The server puts an imprint layer in front of the model that one client gets, and reads its update."""

    name = "malicious-server"
    title = "Images by a crafted model"
    position = "the server, malicious: it sends a client a model of its own making"
    granted = (
        "what the client is sent: a model with a layer more, which a client who looks sees at once",
        "what the server receives of that client's update, learning rate, number of examples and of steps",
        "no labels",
    )
    taxonomy = ("reconstruction",)
    value = 7.0

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.takes_images:
            return "inputs are no images"
        return deployed.uncrafted

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`."""
        added = to_try(deployed, [INSPECT_MODEL, PRIVATE] if effort.thorough else [INSPECT_MODEL])
        attacked = {(_KEY,): deployed.client_defenses} | {(_KEY, name): defense for name, defense in added.items()}
        cells = [
            ProbeCell(key, _sections(deployed, seed, defense), search=2.0, slower=pace_of(defense))
            for seed in seeds(deployed, effort)
            for key, defense in attacked.items()
        ]
        if not effort.thorough:
            return cells
        clean = baseline_cells(deployed, effort, {DEPLOYED: deployed.rule})
        return [*cells, *clean, *defended_cells(deployed, effort, added)]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        attacked = outcomes.of(_KEY)
        recovered = RecoveredImages.of(attacked, 1)
        refused = [seed for seed, outcome in attacked.items() if _refused(outcome)]
        if recovered is None and not refused:
            return []
        if recovered is None:
            return [self._refusal(attacked)]
        share = exact_interval(recovered.recovered, recovered.images)
        effect = share if recovered.recovered else Estimate(0.0, 0.0, share.high)
        severity, why = judged(_MEASURE, effect, _GRANTS)
        sentence = (
            f"From the {deployed.received('update')} that a client sends who trains on all its images, a server that "
            f"sends it a crafted model recovers "
            f"{recovered.recovered} of {recovered.images} images ({share.points()}%), "
            f"at a mean PSNR of {recovered.psnr:.1f} dB; a gray image has {recovered.gray:.1f} dB and recovers none."
        )
        if refused:
            sentence += f" With {len(refused)} of {len(attacked)} seeds the client refused the model and sent nothing."
        first = next(iter(outcomes.of(_KEY).values()))
        images = observed_images(first.folder.parent, recovered.records)
        rows = [
            [f"seed {seed}", f"{one.recovered} of {one.images}", f"{one.psnr:.1f}", f"{one.gray:.1f}"]
            for seed, outcome in outcomes.of(_KEY).items()
            if (one := RecoveredImages.of({seed: outcome}, 1)) is not None
        ]
        columns = ["client 0", "recovered", "PSNR (dB)", "gray image (dB)"]
        return [
            self.finding(
                severity=severity,
                statement=sentence,
                effect=effect,
                measure=_MEASURE,
                null="a gray image",
                why=why,
                tables=(EvidenceTable("Images recovered of one client, by seed.", columns, rows),),
                images=tuple(image for _, image in telling(images)),
                notes=(
                    "A client that looks at the model it receives can refuse it (inspect_model); servers that change "
                    "weights only, or hide what they do, are harder to see (docs/malicious_server.md).",
                    "Images of all seeds are counted together, as if they were independent: the interval is too narrow "
                    "where seeds differ.",
                ),
                countermeasures=_countermeasures(deployed, outcomes, recovered.images // len(recovered.records)),
                cells=tuple(outcome.cell.sections for outcome in outcomes.finished),
            )
        ]

    def _refusal(self, attacked: Mapping[int, CellOutcome]) -> AuditFinding:
        """The deployed clients look at what they receive, and none of them trained on this."""
        count = len(attacked)
        sentence = (
            f"The client that was sent a crafted model looked at it and refused to train on it, with {count} of "
            f"{count_of(count, 'seed')}: a server of this kind recovers nothing."
        )
        return self.finding(
            severity=NONE,
            statement=sentence,
            effect=Estimate(0.0, 0.0, 0.0),
            measure=_MEASURE,
            null="a gray image",
            why="the client sent nothing",
            notes=("Servers that change weights only, or hide what they do, are harder to see.",),
            cells=tuple(outcome.cell.sections for outcome in attacked.values()),
        )


def _refused(outcome: CellOutcome) -> bool:
    return any((line.get("leakage") or {}).get("refused") for line in round_lines(outcome.folder))


def _countermeasures(deployed: Deployment, outcomes: CellOutcomes, images: int) -> tuple[Countermeasure, ...]:
    """What is left to the same server where clients defend themselves.

    Args:
        deployed: the federation.
        outcomes: of the probe's cells.
        images: of the client: so many were safe where it refused.
    """
    tried = []
    for name, defense in to_try(deployed, [INSPECT_MODEL, PRIVATE]).items():
        cells = outcomes.of(_KEY, name)
        recovered = RecoveredImages.of(cells, 1)
        safe = images * sum(_refused(outcome) for outcome in cells.values())
        count, total = (0, safe) if recovered is None else (recovered.recovered, recovered.images + safe)
        if total:
            left, cost = exact_interval(count, total), cost_of(outcomes, name, deployed)
            epsilon = epsilon_of(outcomes.of(*clean_key(name)))
            tried.append(Countermeasure(name, [*defense, *deployed.rule], left, cost, epsilon))
    return best_first(tried)


def _sections(deployed: Deployment, seed: int, defense: Sequence[Any]) -> dict[str, Any]:
    federation = dict(deployed.sections["federation"])
    for name in ("clients_per_round", "sampling", "selection", "stragglers", "evaluate_every"):
        federation.pop(name, None)
    return deployed.cell(
        seed,
        federation={**federation, "rounds": 1},
        inversion={"name": "imprint", "target": {"client": 0, "rounds": [1]}},
        defense=[*defense, *deployed.rule],
    )
