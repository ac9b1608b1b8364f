"""The audit of labels: what a party without them makes of what crosses the cut of a network.

The party keeps the gradients that it is sent in the rounds that are watched, and after each of them asks every
inference about the examples seen. Scores of a round are standardized and averaged over the rounds: one area under the
ROC curve of all that was seen, with its interval.

What the same method reads from the activations of the network before training, in place of gradients and of trained
activations, is what the party knows without taking part (blind).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedsec.auditing import auc, clopper_pearson
from fedsec.errors import InputError
from fedsec.federation.rounds import RoundResult
from fedsec.federation.split.loop import CutNetworkLoop
from fedsec.federation.split.network import Crossing
from fedsec.plugins import registry
from fedsec.runs.audits.part import AuditConclusion, AuditPart
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams
from fedsec.threat import LabelInference, LabelView, OwnPart

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment

METRICS = ("label_leak_auc", "label_leak_auc_blind", "label_leak_accuracy", "label_leak_accuracy_blind")
RESAMPLES = 400
"""Bootstrap samples behind the interval of an area that is a mean over classes."""


class LabelAudit(AuditPart):
    """Asks for the labels of a client's or party's examples.

    Args:
        config: of the cell; its audit asks for labels.
    """

    name: ClassVar[str] = "labels"

    def __init__(self, config: CellConfig) -> None:
        super().__init__(config)
        assert config.audit is not None
        assert config.audit.labels is not None
        self.section, self.confidence = config.audit.labels, config.audit.confidence
        self.watched = frozenset(self.section.watched(config.federation.rounds))
        self.streams = Streams(config.seed)
        self.inferences: dict[str, LabelInference] = {
            self.section.label(place): registry.load("inference", one.name)(**one.options)
            for place, one in enumerate(self.section.inferences)
        }
        self.notes: dict[str, None] = {}

    def attach(self, experiment: "Experiment", folder: Path) -> None:
        self.rehearse(experiment, folder)
        # Before any training, and before a kept state is restored.
        before = self._activations()
        everyone = torch.ones(len(before), dtype=torch.bool)
        view = self._view(before, before, everyone)
        self.blind = [self._scored(inference, view) for inference in self.inferences.values()]
        self.federation.observers.append(self._see)

    def rehearse(self, experiment: "Experiment", folder: Path) -> None:
        federation = experiment.federation
        if not isinstance(federation, CutNetworkLoop):
            raise InputError("audit.labels: looks at the cut of a network, and this federation cuts none")
        classes = experiment.dataset.num_classes or 0
        if classes < 2:
            raise InputError("audit.labels: this task has no classes to tell; expected a classification")
        self.federation, self.num_classes, self.binary = federation, classes, classes == 2
        self._choose(federation.examples_of(self.section.client))
        self.scores = torch.zeros(
            len(self.inferences), len(self.asked), 1 if self.binary else classes, dtype=torch.float64
        )
        self.counts = torch.zeros(len(self.inferences), len(self.asked), dtype=torch.int64)
        self._forget()

    def _choose(self, examples: np.ndarray) -> None:
        """Draw the examples whose labels are known, and those whose labels are asked."""
        order = self.streams.numpy("audit", "labels", "examples").permutation(np.sort(examples))
        labels = self.federation.data.label_of.cpu().numpy()[order]
        known = [order[labels == label][: self.section.known] for label in range(self.num_classes)]
        self.known = np.concatenate(known) if self.section.known else np.zeros(0, np.int64)
        others = order[~np.isin(order, self.known)]
        if not len(others):
            raise InputError(
                f"audit.labels: client {self.section.client} has {len(examples)} examples, and all are known; expected "
                "a smaller known"
            )
        self.asked = others[: self.section.examples]
        self.everything = np.concatenate([self.asked, self.known])
        self.labels = self.federation.data.label_of.cpu()[torch.from_numpy(self.everything)]
        self._places = {int(example): place for place, example in enumerate(self.everything)}

    def _forget(self) -> None:
        self.gradients = torch.empty(0, 0)
        self.seen = torch.zeros(len(self.everything), dtype=torch.bool)

    def _see(self, crossing: Crossing) -> None:
        if crossing.round not in self.watched or crossing.client != self.section.client:
            return
        rows = crossing.gradients.flatten(1).cpu()
        if not len(self.gradients):
            self.gradients = rows.new_zeros(len(self.everything), rows.shape[1])
        for row, example in zip(rows, crossing.examples.tolist(), strict=True):
            if (place := self._places.get(example)) is not None and bool(row.isfinite().all()):
                self.gradients[place], self.seen[place] = row, True

    def after(self, result: RoundResult) -> None:
        asked = self.seen[: len(self.asked)]
        if result.round not in self.watched or not bool(asked.any()) or result.diverged:
            self._forget()
            return
        view = self._view(self.gradients, self._activations(), self.seen)
        for place, inference in enumerate(self.inferences.values()):
            if (scores := self._scored(inference, view)) is None:
                continue
            spread = scores.std(0, correction=0)
            self.scores[place, asked] += (scores - scores.mean(0)) / torch.where(spread > 0, spread, 1)
            self.counts[place, asked] += 1
        self._forget()

    def _activations(self) -> Tensor:
        return self.federation.activations(self.everything, self.section.client).flatten(1).cpu()

    def _view(self, gradients: Tensor, activations: Tensor, seen: Tensor) -> LabelView:
        count = len(self.asked)
        asked, known = seen[:count], seen[count:]
        parts: dict[str, Any] = {}
        if bool(known.any()):
            parts = {
                "known_gradients": gradients[count:][known],
                "known_activations": activations[count:][known],
                "known_labels": self.labels[count:][known],
            }
        if any("own_part" in inference.requirements for inference in self.inferences.values()):
            module, inputs = self.federation.own_part(self.everything, self.section.client)
            parts["own"] = OwnPart(module, inputs[:count][asked], inputs[count:][known])
        return LabelView(gradients[:count][asked], activations[:count][asked], self.num_classes, **parts)

    def _scored(self, inference: LabelInference, view: LabelView) -> Tensor | None:
        """[asked, scores]; None where the inference cannot work on what was seen."""
        if "own_part" not in inference.requirements:
            view = replace(view, own=None)
        try:
            return inference.infer(view).reshape(len(view.gradients), -1).cpu()  # one with an own part may be on a GPU
        except InputError as error:
            self.notes[f"{error}"] = None
            return None

    def state(self) -> dict[str, Tensor]:
        return {"scores": self.scores, "counts": self.counts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state["scores"].shape != self.scores.shape:
            raise InputError("audit.labels: a kept state is of other examples or inferences")
        self.scores, self.counts = state["scores"].clone(), state["counts"].clone()

    def conclude(self) -> AuditConclusion:
        labels = self.labels[: len(self.asked)]
        results: dict[str, Any] = {}
        metrics: dict[str, float | None] = dict.fromkeys(METRICS)
        for place, name in enumerate(self.inferences):
            counted, blind = self.counts[place] > 0, self.blind[place]
            seen = self.scores[place, counted] / self.counts[place, counted, None]
            result = {"examples": int(counted.sum()), **self._figures(seen, labels[counted])}
            if blind is not None:
                result["blind"] = self._figures(blind, labels)
            results[name] = result
            if place == 0:
                metrics["label_leak_auc"] = result.get("auc")
                metrics["label_leak_accuracy"] = result.get("accuracy")
                metrics["label_leak_accuracy_blind"] = result.get("blind", {}).get("accuracy")
                metrics["label_leak_auc_blind"] = result.get("blind", {}).get("auc")
        record = {
            "client": self.section.client,
            "known": len(self.known),
            "rounds": sorted(self.watched),
            "confidence": self.confidence,
            "inferences": results,
        }
        return AuditConclusion(record, metrics, list(self.notes))

    def _figures(self, scores: Tensor, labels: Tensor) -> dict[str, Any]:
        """The area under the ROC curve with its interval; of more than two classes its mean over them, and accuracy."""
        values, truth = scores.numpy(), labels.numpy()
        present = [label for label in range(self.num_classes) if 0 < (truth == label).sum() < len(truth)]
        if not present or (self.binary and len(present) < 2):
            return {}
        if self.binary:
            area = auc(values[truth == 1, 0], values[truth == 0, 0], self.confidence)
            return {"auc": area.value, "interval": [area.low, area.high]}
        rng = self.streams.numpy("audit", "labels", "bootstrap")
        areas = [_mean_area(values[rows], truth[rows]) for rows in _resampled(len(truth), rng)]
        tail = (1 - self.confidence) / 2
        hits = int((values.argmax(1) == truth).sum())
        rate = clopper_pearson(hits, len(truth), self.confidence)
        return {
            "auc": _mean_area(values, truth),
            "interval": [float(bound) for bound in np.nanquantile(areas, [tail, 1 - tail])],
            "accuracy": hits / len(truth),
            "accuracy_interval": [rate.low, rate.high],
            "guess": float(np.bincount(truth).max() / len(truth)),
        }


def _mean_area(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve of one class against the others, averaged over the classes that there are."""
    from scipy.stats import rankdata

    areas = []
    for label in range(scores.shape[1]):
        inside = labels == label
        count, others = int(inside.sum()), int((~inside).sum())
        if count and others:
            ranks = rankdata(scores[:, label])[inside].sum()
            areas.append((ranks - count * (count + 1) / 2) / (count * others))
    return float(np.mean(areas)) if areas else float("nan")


def _resampled(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(0, count, count) for _ in range(RESAMPLES)]
