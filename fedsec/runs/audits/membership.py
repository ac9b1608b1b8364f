"""Membership inference in a running cell: who is held out, what the observer sees, and what it makes of it.

Members and non-members are drawn at random from the shares of the clients that are asked about, and the non-members are
held out before training. So nothing but training tells the two apart, whatever the partition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from fedsec.data import Dataset
from fedsec.errors import InputError, count_of
from fedsec.federation.rounds import RoundResult
from fedsec.federation.updates import Federation
from fedsec.membership.blind import blind_auc
from fedsec.membership.report import MembershipReport, judge
from fedsec.membership.shadow_models import finite_models
from fedsec.plugins import registry
from fedsec.runs.audits.observed_models import ObservedModels
from fedsec.runs.audits.part import AuditConclusion, AuditPart
from fedsec.runs.audits.shadow_cohort import ShadowCohort
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams
from fedsec.threat import MembershipInference, MembershipView

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment

METRICS = ("membership_auc", "membership_auc_blind", "membership_tpr_at_1pct_fpr", "membership_tpr_at_01pct_fpr")


class MembershipAudit(AuditPart):
    """Asks who was trained on.

    Args:
        config: of the cell.
    """

    name: ClassVar[str] = "membership"

    def __init__(self, config: CellConfig) -> None:
        super().__init__(config)
        assert config.audit is not None
        assert config.audit.membership is not None
        self.section, self.confidence = config.audit.membership, config.audit.confidence
        self.streams = Streams(config.seed)
        self.notes: list[str] = []

    def shares(self, shares: Sequence[np.ndarray], dataset: Dataset) -> list[np.ndarray]:
        asked = range(len(shares)) if self.section.victim == "all" or len(shares) == 1 else [self.section.victim]
        pool = np.concatenate([shares[client] for client in asked])
        members, nonmembers = self.section.members, self.section.nonmembers
        whose = "the clients'" if self.section.victim == "all" else f"client {self.section.victim}'s"
        if members + nonmembers > len(pool) or 2 * nonmembers > len(pool):
            raise InputError(
                f"audit.membership: asks for {count_of(members, 'member')} and {nonmembers} non-members of {whose} "
                f"{count_of(len(pool), 'example')}; expected fewer, and no more non-members than half of them"
            )
        drawn = Streams(self.config.data_seed).numpy("audit", "membership", "candidates").permutation(pool)
        self.members, self.nonmembers = drawn[:members], drawn[members : members + nonmembers]
        self.asked = tuple(asked)
        self.owner = {int(one): client for client in asked for one in shares[client]}
        remaining = [share[~np.isin(share, self.nonmembers)] for share in shares]
        for client, share in enumerate(remaining):
            if not len(share):
                raise InputError(
                    f"audit.membership: holding {nonmembers} non-members out leaves client {client} without examples; "
                    "expected fewer"
                )
        return remaining

    def attach(self, experiment: "Experiment", folder: Path) -> None:
        federation = experiment.federation
        if not isinstance(federation, Federation):
            raise InputError("audit.membership: looks at models of a federation that exchanges updates; expected one")
        self.federation, self.folder = federation, folder
        self._leave_out_byzantine(experiment)
        self.candidates = np.concatenate([self.members, self.nonmembers])
        self.inputs, self.labels = federation.data.examples(self.candidates)
        self.observed = ObservedModels(
            federation,
            self.inputs,
            self.labels,
            self.section.observed(federation.rounds),
            victim=self.asked[0] if self.section.view == "server" else None,
            gradients="updates" in self.section.needs,
        )
        self.shadows = ShadowCohort(federation, self.config)
        test = experiment.dataset.test
        order = self.streams.numpy("audit", "membership", "population").permutation(len(test))
        self.population = test.take(order[: self.section.population])

    def _leave_out_byzantine(self, experiment: "Experiment") -> None:
        """Byzantine clients need not train on what they have: their examples are nobody's members."""
        byzantine = experiment.threat.fixed
        if self.section.victim != "all":
            if byzantine & set(self.asked):
                self.notes.append(f"client {self.asked[0]} is Byzantine: what it sends need not be what it trained")
            return
        of_honest = [
            np.array([one for one in group if self.owner[int(one)] not in byzantine], dtype=np.int64)
            for group in (self.members, self.nonmembers)
        ]
        if min(map(len, of_honest)) < 2:
            raise InputError("audit.membership: fewer than two members or non-members are of honest clients")
        if lost := sum(map(len, (self.members, self.nonmembers))) - sum(map(len, of_honest)):
            self.notes.append(f"{count_of(lost, 'example')} of Byzantine clients are not asked about")
        self.members, self.nonmembers = of_honest

    def after(self, result: RoundResult) -> None:
        self.observed.after()

    def state(self) -> dict[str, Tensor]:
        return self.observed.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.observed.restore(state)

    def conclude(self) -> AuditConclusion:
        about: dict[str, Any] = {
            "view": self.section.view,
            "victim": self.section.victim,
            "members": len(self.members),
            "nonmembers": len(self.nonmembers),
            "held_out_share": round(self.section.nonmembers / len(self.owner), 4),
        }
        self.observed.finish()
        empty = dict.fromkeys(METRICS)
        if self.federation.diverged:
            return AuditConclusion(about, empty, [*self.notes, "the model is no longer finite: it tells nothing"])
        if not self.observed.rounds:
            return AuditConclusion(about, empty, [*self.notes, "nothing was observed: the client sent nothing"])
        report, more = self._report()
        figures = report.as_dict()
        self._draw(figures["inferences"])
        return AuditConclusion({**about, **more, **figures}, self._metrics(report), report.notes)

    def _report(self) -> tuple[MembershipReport, dict[str, Any]]:
        view = MembershipView(self.observed.logits, self.observed.rounds, updates=self.observed.updates)
        about: dict[str, Any] = {"rounds": list(self.observed.rounds)}
        needs, notes = self.section.needs, [*self.notes]
        if "updates" in needs and view.updates is None:
            raise InputError("audit.membership: no update of the client was observed")
        if "population" in needs:
            device = self.labels.device
            inputs, labels = self.population.inputs.to(device), self.population.targets.to(device)
            view = replace(view, population=self.observed.last_signals(inputs, labels))
            about["population"] = len(labels)
        if "shadow_models" in needs:
            inside = self.shadows.halves(self.section.shadow_models, len(self.candidates), self.streams)
            victim = self.asked[0] if self.section.view == "server" else None
            start = None if victim is None else self.observed.start
            last = self.observed.rounds[-1] if self.observed.rounds else 1
            rows = self.shadows.train(
                self.candidates, inside, self.streams, victim=victim, start=start, round_number=last
            )
            finite = finite_models(rows)
            if not bool(finite.all()):
                notes.append(f"{int((~finite).sum())} of {len(inside)} shadow models diverged and are left out")
            others = None
            if view.population is not None:
                others = self.population.inputs.to(self.labels.device), self.population.targets.to(self.labels.device)
            shadows = self.shadows.signals(rows, inside, finite, (self.inputs, self.labels), others)
            view = replace(view, shadows=shadows)
            about |= {"shadow_models": len(shadows.logits), "shadow_examples": self.shadows.examples}
        inferences: dict[str, MembershipInference] = {
            self.section.label(place): registry.load("inference", one.name)(**one.options)
            for place, one in enumerate(self.section.inferences)
        }
        rng = self.streams.numpy("audit", "membership", "order")
        blind = blind_auc(self.inputs, self.labels, len(self.members), rng, self.confidence)
        report = judge(
            view, len(self.members), inferences, blind=blind, rng=rng, confidence=self.confidence, notes=notes
        )
        return report, about

    def _metrics(self, report: MembershipReport) -> dict[str, float | None]:
        """Figures of the first inference, which the scenario named before anybody saw a score."""
        first = next(iter(report.results.values()))
        tpr = {fpr: rate.tpr.value if rate.is_resolved else None for fpr, rate in first.rates.tpr_at.items()}
        values = (first.rates.auc.value, report.blind.value, tpr.get(0.01), tpr.get(0.001))
        return dict(zip(METRICS, values, strict=True))

    def _draw(self, inferences: Mapping[str, Any]) -> None:
        from fedsec.report.evidence.membership_roc import write_roc

        write_roc(inferences, self.folder)
