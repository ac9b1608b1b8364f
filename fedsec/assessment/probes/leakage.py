"""Images: what a curious server recovers of a client that has few, in the first and in a late round."""

from collections.abc import Mapping
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import Estimate, exact_interval
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.probes.accuracies import (
    DEPLOYED,
    baseline_cells,
    clean_key,
    seeds,
)
from fedsec.assessment.probes.client_defenses import (
    NOISE,
    PRIVATE,
    PRUNE,
    best_first,
    cost_of,
    defended_cells,
    epsilon_of,
    pace_of,
    to_try,
)
from fedsec.assessment.probes.probe import AuditProbe, CellOutcome, CellOutcomes, ProbeCell
from fedsec.assessment.severity import judged
from fedsec.report.evidence.reconstructions import observed_images, telling
from fedsec.report.evidence.round_lines import round_lines

__all__ = ["LeakageProbe", "RecoveredImages"]

_IMAGES, _CLIENTS, _ITERATIONS, _MEASURE = 4, 10, 400, "recovered_images"
_UPDATE, _GRADIENT = "update", "gradient"


class LeakageProbe(AuditProbe):
    """A curious server inverts what a client with four images sends, by Inverting Gradients."""

    name = "leakage"
    title = "Images from updates"
    position = "the server, curious: it follows the protocol"
    granted = (
        "what the server receives of the update of one client that trains on four images",
        "the model that it sent, learning rate and number of steps",
        "how clients defend their updates, where they do",
        "no labels",
    )
    taxonomy = ("reconstruction",)
    value = 9.0

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if not deployed.takes_images:
            return "inputs are no images"
        if deployed.unreplayed is not None:
            return deployed.unreplayed
        if deployed.train_examples < 2 * _IMAGES:
            return f"there are {deployed.train_examples} training images, and it takes {2 * _IMAGES}"
        return None

    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """See `AuditProbe`."""
        cells, tried = [], _defenses(deployed, thorough=effort.thorough)
        for seed in seeds(deployed, effort):
            for name, defense in tried.items():
                # A plain gradient is one of a whole model.
                both = name == DEPLOYED and effort.thorough and deployed.whole_model
                for channel in (_UPDATE, _GRADIENT) if both else (_UPDATE,):
                    cells.append(_cell(deployed, effort, seed, (channel, name), defense))
        added = {name: defense for name, defense in tried.items() if name != DEPLOYED}
        clean = [*baseline_cells(deployed, effort, {DEPLOYED: deployed.rule}), *defended_cells(deployed, effort, added)]
        return [*clean, *cells]

    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """See `AuditProbe`."""
        seen = {
            (channel, number): RecoveredImages.of(outcomes.of(channel, DEPLOYED), number)
            for channel in (_UPDATE, _GRADIENT)
            for number in _numbers(outcomes.of(channel, DEPLOYED))
        }
        findings = []
        for (channel, number), recovered in seen.items():
            if recovered is None:
                continue
            first = number == 1
            name = self.name if channel == _UPDATE else f"{self.name}-gradient"
            findings.append(
                self._finding(deployed, outcomes, name if first else f"{name}-late", channel, number, recovered)
            )
        return findings

    def _finding(
        self,
        deployed: Deployment,
        outcomes: CellOutcomes,
        name: str,
        channel: str,
        number: int,
        recovered: "RecoveredImages",
    ) -> AuditFinding:
        share = exact_interval(recovered.recovered, recovered.images)
        # A gray image recovers nothing, whatever it is compared with.
        severity, why = judged(_MEASURE, share if recovered.recovered else Estimate(0.0, 0.0, share.high))
        what = "update" if channel == _UPDATE else "plain gradient"
        sentence = (
            f"From the {deployed.received(what)} that a client with {_IMAGES} images (the deployed ones have "
            f"{deployed.train_examples / deployed.clients:.0f} on average) sends in round {number}, a curious server "
            f"recovers {recovered.recovered} of {recovered.images} images ({share.points()}%), at a mean PSNR of "
            f"{recovered.psnr:.1f} dB; a gray image has {recovered.gray:.1f} dB and recovers none."
        )
        title = self.title if channel == _UPDATE else "Images from single gradients"
        when = "first round" if number == 1 else "last round"
        images = observed_images(next(iter(outcomes.of(channel, DEPLOYED).values())).folder.parent, recovered.records)
        return self.finding(
            id=name,
            title=f"{title}, {when}",
            severity=severity,
            statement=sentence,
            effect=share,
            measure=_MEASURE,
            null="a gray image",
            why=why,
            tables=(self._table(deployed, outcomes, channel, number),),
            images=tuple(image for _, image in telling([image for image in images if image.round == number])),
            countermeasures=_countermeasures(deployed, outcomes, channel, number),
            notes=_notes(deployed, channel),
            cells=tuple(
                outcome.cell.sections
                for outcome in outcomes.finished
                if outcome.cell.key[0] in (channel, clean_key(DEPLOYED)[0])
            ),
        )

    @staticmethod
    def _table(deployed: Deployment, outcomes: CellOutcomes, channel: str, number: int) -> EvidenceTable:
        rows = []
        for name in _defenses(deployed, thorough=True):
            recovered = RecoveredImages.of(outcomes.of(channel, name), number)
            if recovered is not None:
                counted = f"{recovered.recovered} of {recovered.images}"
                rows.append([name, counted, f"{recovered.psnr:.1f}", f"{recovered.gray:.1f}"])
        caption = f"Images recovered from what one client sent in round {number}, by what clients do to their updates."
        return EvidenceTable(caption, ["defense of updates", "recovered", "PSNR (dB)", "gray image (dB)"], rows)


class RecoveredImages:
    """What was recovered in one round, over seeds.

    Args:
        recovered: images.
        images: in all.
        psnr: mean over seeds, in dB.
        gray: of a gray image, likewise.
        records: of the cells.
    """

    def __init__(self, recovered: int, images: int, psnr: float, gray: float, records: list[Mapping[str, Any]]) -> None:
        self.recovered, self.images, self.psnr, self.gray, self.records = recovered, images, psnr, gray, records

    @classmethod
    def of(cls, outcomes: Mapping[int, CellOutcome], number: int) -> "RecoveredImages | None":
        """Of a round; None where it was not looked at."""
        recovered, images, psnr, gray, records = 0, 0, [], [], []
        for outcome in outcomes.values():
            for line in round_lines(outcome.folder):
                seen = line.get("leakage") or {}
                metrics = seen.get("metrics") or {}
                if line["round"] == number and metrics.get("psnr") is not None:
                    images += seen["images"]
                    recovered += round(metrics["recovered"] * seen["images"])
                    psnr.append(metrics["psnr"])
                    gray.append(metrics["psnr_gray"])
                    records.append(outcome.record)
        if not images:
            return None
        return cls(recovered, images, sum(psnr) / len(psnr), sum(gray) / len(gray), records)


def _numbers(outcomes: Mapping[int, CellOutcome]) -> list[int]:
    return sorted(
        {line["round"] for one in outcomes.values() for line in round_lines(one.folder) if line.get("leakage")}
    )


def _defenses(deployed: Deployment, *, thorough: bool) -> dict[str, list[Any]]:
    """Name -> what clients do, as deployed and with one defense of updates more; the server's rule apart."""
    candidates = [NOISE, PRUNE, PRIVATE] if thorough else [NOISE]
    return {DEPLOYED: list(deployed.client_defenses), **to_try(deployed, candidates)}


def _cell(deployed: Deployment, effort: Effort, seed: int, key: tuple[str, str], defense: list[Any]) -> ProbeCell:
    clients = max(2, min(_CLIENTS, deployed.clients, deployed.train_examples // _IMAGES))
    late = effort.rounds_of(deployed.rounds)
    federation = dict(deployed.sections["federation"])
    for name in ("clients_per_round", "sampling", "selection", "stragglers", "server_data", "evaluate_every"):
        federation.pop(name, None)
    rounds = sorted({1, late})
    if key[0] == _GRADIENT:
        federation, rounds = {"algorithm": "fedsgd"}, [1]
    iterations = effort.iterations_of(_ITERATIONS)
    target = {"client": 0, "rounds": rounds}
    knowledge = {"knowledge": {"labels": True}} if deployed.last_layer_at_home else {}
    sections = deployed.cell(
        seed,
        dataset={**deployed.sections["dataset"], "train_size": _IMAGES * clients},
        partition={"name": "iid", "clients": clients},
        federation={**federation, "rounds": rounds[-1], "evaluate_every": rounds[-1]},
        inversion={"name": "inverting_gradients", "iterations": iterations, "tv": 0.001, "target": target, **knowledge},
        defense=[*defense, "mean"],
    )
    return ProbeCell(key, sections, iterations=iterations * len(rounds), slower=pace_of(defense))


def _countermeasures(
    deployed: Deployment, outcomes: CellOutcomes, channel: str, number: int
) -> tuple[Countermeasure, ...]:
    tried = []
    for name, defense in _defenses(deployed, thorough=True).items():
        recovered = RecoveredImages.of(outcomes.of(channel, name), number)
        cost = cost_of(outcomes, name, deployed)
        if name != DEPLOYED and recovered is not None and cost is not None:
            left = exact_interval(recovered.recovered, recovered.images)
            epsilon = epsilon_of(outcomes.of(*clean_key(name)))
            tried.append(Countermeasure(name, [*defense, *deployed.rule], left, cost, epsilon))
    return best_first(tried)


def _notes(deployed: Deployment, channel: str) -> tuple[str, ...]:
    mean = deployed.train_examples / deployed.clients
    notes = [
        f"The client that is looked at has {_IMAGES} images; the deployed clients have {mean:.0f} on average. More "
        "images in an update are harder to tell apart, and a client that joins with few is as exposed as this one.",
        "It trains in a federation of such clients, all of which take part: a late round's model has learned from few "
        "images.",
        "Images of one update are recovered together or not at all: the interval counts them as if they were "
        "independent, and is too narrow.",
    ]
    if not deployed.whole_model:
        notes.append(
            "Layers stay with clients: the server takes those that the federation began with for the client's own."
        )
    if deployed.last_layer_at_home:
        notes.append("Labels are granted, since the layer from which they are read is one that stays with clients.")
    if channel == _GRADIENT:
        notes.append("A plain gradient is what a client sends whose local training is a single step.")
    return tuple(notes)
