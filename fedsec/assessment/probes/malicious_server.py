"""A malicious server: what one client of the deployed size gives away to a model that was made for it."""

from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import Estimate, exact_interval
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, EvidenceTable
from fedsec.assessment.probes.accuracies import seeds
from fedsec.assessment.probes.leakage import RecoveredImages
from fedsec.assessment.probes.probe import AuditProbe, CellOutcomes, ProbeCell
from fedsec.assessment.severity import judged
from fedsec.report.evidence.reconstructions import observed_images, telling

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
        if not deployed.replayable:
            return "it is tried where clients send updates of plain SGD over epochs, on images of classes"
        return None

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`."""
        return [ProbeCell((_KEY,), _sections(deployed, seed), search=2.0) for seed in seeds(deployed, effort)]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        recovered = RecoveredImages.of(outcomes.of(_KEY), 1)
        if recovered is None:
            return []
        share = exact_interval(recovered.recovered, recovered.images)
        effect = share if recovered.recovered else Estimate(0.0, 0.0, share.high)
        severity, why = judged(_MEASURE, effect, _GRANTS)
        sentence = (
            f"From the {deployed.received('update')} that a client sends who trains on all its images, a server that "
            f"sends it a crafted model recovers "
            f"{recovered.recovered} of {recovered.images} images ({share.points()}%), "
            f"at a mean PSNR of {recovered.psnr:.1f} dB; a gray image has {recovered.gray:.1f} dB and recovers none."
        )
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
                    "A client that looks at the model it receives can refuse it (defenses with the role inspection); "
                    "this audit did not try whether it would.",
                    "Images of all seeds are counted together, as if they were independent: the interval is too narrow "
                    "where seeds differ.",
                ),
                cells=tuple(outcome.cell.sections for outcome in outcomes.finished),
            )
        ]


def _sections(deployed: Deployment, seed: int) -> dict[str, Any]:
    federation = dict(deployed.sections["federation"])
    for name in ("clients_per_round", "sampling", "stragglers", "evaluate_every"):
        federation.pop(name, None)
    return deployed.cell(
        seed,
        federation={**federation, "rounds": 1},
        inversion={"name": "imprint", "target": {"client": 0, "rounds": [1]}},
    )
