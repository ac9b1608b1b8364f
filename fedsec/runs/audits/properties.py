"""The audit of what updates say of a client: which site sent them, and its mix of classes.

What an inference asks decides what it is granted and what its scores are held against; whose inference it is does not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.inversion.server_view import ClientWork, ServerKnowledge, prescribed_steps, server_view
from fedsec.plugins import registry
from fedsec.properties.class_mixes import compare_mixes
from fedsec.properties.sites import identify_sites
from fedsec.properties.sketch import Sketch
from fedsec.runs.audits.part import AuditConclusion, AuditPart
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams
from fedsec.threat import Observation, PropertyInference, PropertyView

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment


class PropertyAudit(AuditPart):
    """Keeps a sketch of every honest update of some rounds, and the class mixes that are read off it.

    Args:
        config: of the cell; its audit asks for properties.
    """

    name = "properties"

    def __init__(self, config: CellConfig) -> None:
        super().__init__(config)
        assert config.audit is not None
        assert config.audit.properties is not None
        self.asked = config.audit.properties
        self.watched = frozenset(self.asked.watched(config.federation.rounds))
        self.streams = Streams(config.seed)
        self.inferences: list[PropertyInference] = [
            registry.load("inference", one.name)(**one.options) for one in self.asked.inferences
        ]
        self.sketches = torch.empty(0, 0, dtype=torch.float64)
        self.mixes = {
            place: torch.empty(0, 0, dtype=torch.float64)
            for place, one in enumerate(self.asked.inferences)
            if one.asks == "class_mix"
        }
        self.seen = torch.empty(0, 2, dtype=torch.int64)
        self.unread: dict[int, str] = {}

    def attach(self, experiment: "Experiment", folder: Path) -> None:
        federation = experiment.federation
        if not isinstance(federation, Federation):
            raise InputError("audit.properties: looks at clients' updates, and this federation exchanges none")
        self.federation, self.num_classes = federation, experiment.dataset.num_classes or 0
        counts = np.array(experiment.counts, dtype=np.float64)
        self.true_mixes = counts / counts.sum(1, keepdims=True).clip(min=1)
        self.sketch = Sketch(
            len(federation.parameters), self.asked.projection, self.streams.torch("audit", "properties", "sketch")
        )
        federation.row_observers.append(self._see)

    def state(self) -> dict[str, Tensor]:
        mixes = {f"mixes_{place}": shares for place, shares in self.mixes.items()}
        return {"sketches": self.sketches, "seen": self.seen, **mixes}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.sketches, self.seen = state["sketches"], state["seen"]
        self.mixes = {place: state[f"mixes_{place}"] for place in self.mixes}

    def _see(self, round_number: int, clients: Sequence[int], rows: Tensor) -> None:
        if round_number not in self.watched:
            return
        finite = rows.isfinite().all(1).tolist()
        byzantine = self.federation.threat.in_round(round_number)
        places = [place for place, client in enumerate(clients) if finite[place] and client not in byzantine]
        if not places:
            return
        senders = torch.tensor([[round_number, clients[place]] for place in places])
        self.seen = torch.cat([self.seen, senders])
        sketches = self.sketch(rows[places])
        self.sketches = _joined(self.sketches, sketches)
        if self.mixes:
            observations = [self._observation(clients[place], rows[place], round_number) for place in places]
            view = PropertyView(sketches - sketches.mean(0), self.num_classes, observations=observations)
            self.mixes = {place: _joined(before, self._shares(place, view)) for place, before in self.mixes.items()}

    def _shares(self, place: int, view: PropertyView) -> Tensor:
        """Estimated shares of classes; NaN where an inference cannot read them off this model.

        Raises:
            InputError: what it gives are no shares.
        """
        inference = self.inferences[place]
        try:
            shares = inference.infer(view)
        except InputError as error:
            self.unread[place] = str(error)
            return torch.full(view.shape, torch.nan, dtype=torch.float64)
        if bool((shares < 0).any()) or not torch.allclose(shares.sum(1), shares.new_ones(len(shares)), atol=1e-6):
            raise InputError(
                f"{type(inference).__name__}.score: expected shares of classes, none below 0 and 1 in sum, got "
                f"{shares.min():.3g} as the smallest and sums of {shares.sum(1).min():.3g} to {shares.sum(1).max():.3g}"
            )
        return shares

    def _observation(self, client: int, row: Tensor, round_number: int) -> Observation:
        federation = self.federation
        images, labels = federation.data.client_examples(client)
        local = federation.algorithm.in_round(round_number).training
        distortion = federation.client_defenses.known(row, client) if federation.client_defenses.transforms else None
        if federation.privacy is not None:
            private = federation.privacy.known(federation.trainer.layout.shapes, client, local)
            distortion = private if distortion is None else private.then(distortion)
        return server_view(
            federation.module,
            federation.trainer.layout.views(row),
            ClientWork(images, labels, None if local is None else prescribed_steps(local, len(images))),
            ServerKnowledge(),
            num_classes=self.num_classes,
            normalization=federation.data.normalization,
            distortion=distortion,
            order=self.streams.torch("audit", "properties", "order"),
        )

    def conclude(self) -> AuditConclusion:
        record: dict[str, Any] = {"rounds": sorted({int(number) for number in self.seen[:, 0]})}
        metrics: dict[str, float | None] = {}
        notes = []
        answered: set[str] = set()
        for place, inference in enumerate(self.asked.inferences):
            name, judge = self.asked.label(place), self._sites if inference.asks == "site" else self._class_mixes
            is_first = inference.asks not in answered
            answered.add(inference.asks)
            try:
                record[name], values = judge(place)
            except InputError as error:
                notes.append(f"{name}: {error}")
                continue
            metrics |= values if is_first else {}
        return AuditConclusion(record, metrics, notes)

    def _sites(self, asked: int) -> tuple[dict[str, Any], dict[str, float | None]]:
        rounds, sites = self.seen.unbind(1)
        comparison = identify_sites(
            self.sketches,
            rounds,
            sites,
            permutations=self.asked.permutations,
            generator=self.streams.numpy("audit", "properties", "site"),
            inference=None if self.asked.inferences[asked].name == "site" else self.inferences[asked],
        )
        assert self.config.audit is not None
        rate = comparison.rate(self.config.audit.confidence)
        record = {
            "correct": comparison.correct,
            "attempts": comparison.attempts,
            "chance": comparison.chance,
            "interval": [rate.low, rate.high],
            "confidence": rate.confidence,
        }
        return {**record, **comparison.test.as_json()}, {
            "site_identification": comparison.test.observed,
            "site_identification_chance": comparison.chance,
            "site_identification_p": comparison.test.p,
        }

    def _class_mixes(self, asked: int) -> tuple[dict[str, Any], dict[str, float | None]]:
        shares = self.mixes[asked]
        if bool(shares.isnan().any()):
            raise InputError(self.unread.get(asked, "the last layer did not tell"))
        clients = sorted({int(client) for client in self.seen[:, 1]})
        estimated = np.stack([shares[self.seen[:, 1] == client].mean(0).numpy() for client in clients])
        generator = self.streams.numpy("audit", "properties", "class_mix")
        comparison = compare_mixes(
            estimated, self.true_mixes[clients], permutations=self.asked.permutations, generator=generator
        )
        record = {
            "clients": clients,
            "estimated": estimated.round(4).tolist(),
            "distances": comparison.distances.round(4).tolist(),
            "guess": comparison.guess,
            "correlation": comparison.correlation,
        }
        return {**record, **comparison.test.as_json()}, {
            "class_mix_distance": comparison.test.observed,
            "class_mix_distance_guess": comparison.guess,
            "class_mix_p": comparison.test.p,
        }


def _joined(before: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([before, rows]) if len(before) else rows
