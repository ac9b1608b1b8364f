"""What inferences make of a view, judged: rates with intervals, curves, and the nulls to hold them against."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import logit, ndtri
from torch import Tensor

from fedsec.auditing import MembershipRates, auc, membership_rates, roc
from fedsec.auditing.membership import Auc
from fedsec.threat import MembershipInference, MembershipView

__all__ = ["InferenceResult", "MembershipReport", "judge"]


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """One inference's scores, and how well they tell members from others.

    Attributes:
        scores: of all candidates, members first.
        members: how many of them are members.
        rates: AUC, and TPR at small FPRs, with intervals.
        null: AUC of one half of the non-members against the other: 0.5 within its interval, whatever the inference.
    """

    scores: Float64[Tensor, "candidates"]
    members: int
    rates: MembershipRates
    null: Auc

    def roc(self) -> list[tuple[float, float]]:
        """Corners of the ROC curve, (FPR, TPR) from (0, 0) to (1, 1); what lies on a straight line is left out."""
        curve = roc(self.scores[: self.members].numpy(), self.scores[self.members :].numpy())
        points = list(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True))
        corners = points[:1]
        for before, here, after in zip(points, points[1:], points[2:], strict=False):
            flat, steep = before[1] == here[1] == after[1], before[0] == here[0] == after[0]
            corners += [] if flat or steep else [here]
        return [*corners, *points[-1:]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        curve = [[round(fpr, 6), round(tpr, 6)] for fpr, tpr in self.roc()]
        return {**self.rates.as_dict(), "null_auc": self.null.as_dict(), "roc": curve}


@dataclass(frozen=True, eq=False)
class MembershipReport:
    """What an observer could tell of who was trained on.

    Attributes:
        results: name of an inference -> what it made of the view.
        blind: AUC of a judge that sees no model, see `blind_auc`; above 0.5, members and non-members differ by
            themselves, and no rate here speaks of a model.
        notes: what a reader should know, one line each.
    """

    results: Mapping[str, InferenceResult]
    blind: Auc
    notes: Sequence[str] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        results = {name: result.as_dict() for name, result in self.results.items()}
        return {"inferences": results, "blind_auc": self.blind.as_dict()}

    def __str__(self) -> str:
        """A line for each inference."""
        width = max(map(len, self.results))
        lines = []
        for name, result in self.results.items():
            at = [
                f"TPR at {100 * fpr:g}% FPR " + (str(rate.tpr) if rate.is_resolved else "unresolved")
                for fpr, rate in result.rates.tpr_at.items()
            ]
            lines.append(f"{name:{width}}  AUC {result.rates.auc}  {'  '.join(at)}")
        return "\n".join([*lines, f"{'blind':{width}}  AUC {self.blind}", *self.notes])


def judge(
    view: MembershipView,
    members: int,
    inferences: Mapping[str, MembershipInference],
    *,
    blind: Auc,
    rng: np.random.Generator,
    confidence: float = 0.95,
    notes: Sequence[str] = (),
) -> MembershipReport:
    """Let inferences score a view's candidates, and count.

    Args:
        view: candidates, members first; the inferences do not know of this order.
        members: how many of them are members.
        inferences: by name.
        blind: of the same candidates.
        rng: shuffles candidates before an inference sees them, and halves the non-members.
        confidence: of every interval.
        notes: for the report.

    Raises:
        InputError: an inference needs what the view does not grant.
    """
    candidates = view.shape[0]
    order = torch.from_numpy(rng.permutation(candidates))
    halves = members + rng.permutation(candidates - members)
    half = math.ceil(len(halves) / 2)
    shuffled, results = view.of(order), {}
    for name, inference in inferences.items():
        scores = torch.empty(candidates, dtype=torch.float64)
        scores[order] = inference.infer(shuffled).cpu()
        values = scores.numpy()
        null = auc(values[halves[:half]], values[halves[half:]], confidence)
        rates = membership_rates(values[:members], values[members:], confidence=confidence)
        results[name] = InferenceResult(scores, members, rates, null)
    unresolved = {
        rate.note for result in results.values() for rate in result.rates.tpr_at.values() if not rate.is_resolved
    }
    return MembershipReport(results, blind, (*notes, *sorted(unresolved), *_shifted(blind)))


def _shifted(blind: Auc) -> list[str]:
    """A warning where members and non-members differ by more than one honest audit in two thousand would show."""
    if blind.low <= 0.5:
        return []
    if blind.value < 1:
        deviation = (logit(blind.value) - logit(blind.low)) / -ndtri((1 - blind.confidence) / 2)
        if logit(blind.value) < -ndtri(0.0005) * deviation:
            return []
    return [
        f"members and non-members differ without any model: a judge of inputs alone has an AUC of {blind}; no rate "
        "here says what the model gave away"
    ]
