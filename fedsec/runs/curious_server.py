"""A curious server: it reconstructs one client's images from what it receives, and disturbs nothing."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from fedsec.data.dataset import Dataset
from fedsec.engine.local_training import LocalTraining
from fedsec.federation.knowledge.rounds import KnowledgeFederation
from fedsec.federation.rounds import RoundLoop
from fedsec.federation.split.rounds import SplitFederation
from fedsec.federation.updates import Federation
from fedsec.inversion.attempt import Attempt, attempted, lpips_at_hand
from fedsec.inversion.conditions import check_updates
from fedsec.inversion.figures import Pair, draw_reconstruction
from fedsec.inversion.personal_layers import SharedPart
from fedsec.inversion.server_view import (
    ClientWork,
    ServerKnowledge,
    pixel_scale,
    replayable_steps,
    server_view,
    smoothing_of,
    started_afresh,
    steps_together,
)
from fedsec.metrics.images import Scores
from fedsec.metrics.metric import of_source
from fedsec.plugins import registry
from fedsec.report.evidence.image_tiles import write_tiles
from fedsec.runs.malicious.cut_activations import MOST_FEATURES, watch_cut
from fedsec.runs.malicious.hijacked_cut import hijack_cut
from fedsec.runs.malicious.sent_models import SentModels
from fedsec.runs.malicious.summed_replies import GroupVisit, SummedReplies, remarks_on_sum
from fedsec.runs.texts.curious_reader import read_texts
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams
from fedsec.threat import Distortion, FeatureObservation, HijackingServer, Knowledge, MaliciousServer, Reconstruction
from fedsec.threat.texts import TextInversion


@dataclass(eq=False)
class CuriousServer:
    """Reconstructs what its scenario targets, whenever the federation lets it see a message.

    An update of FedProx is replayed without its proximal term, which is zero where local training starts.

    Args:
        config: of the cell; it has an inversion.
        dataset: for the mean image and the classes' names.
        federation: observed from now on.
        folder: where pictures go.
        mean_image: of the server's own images, where it has any to train on.

    Raises:
        InputError: the client's training is of a kind that the attack cannot replay.
    """

    config: CellConfig
    dataset: Dataset
    federation: RoundLoop
    folder: Path
    mean_image: Tensor | None = None
    _found: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inversion = self.config.inversion
        assert inversion is not None
        self.name, self.target, self.knowledge = inversion.name, inversion.target, inversion.knowledge
        granted = self.knowledge
        self.known = ServerKnowledge(granted.labels, granted.bn_statistics, granted.defense)
        self.inversion: Any = registry.load("inversion", inversion.name)(**inversion.options)
        self.streams = Streams(self.config.seed)
        self.lpips = lpips_at_hand()
        self.sent: SentModels | None = None
        if isinstance(self.federation, Federation):
            check_updates(self.federation, self.inversion, self.target.client, self.knowledge)
            if isinstance(self.inversion, MaliciousServer):
                self.sent = SentModels(
                    self.inversion,
                    self.federation,
                    self.dataset,
                    client=self.target.client,
                    auxiliary=self.knowledge.auxiliary,
                    streams=self.streams,
                )
            if self.federation.secure_aggregation is not None:
                see = self._see_sums if self.sent is None else self._see_summed_replies
                self.federation.sum_observers.append(see)
                return
            self.federation.client_defenses.watched.add(self.target.client)
            self.federation.row_observers.append(self._see_updates)
        elif isinstance(self.federation, SplitFederation):
            look = hijack_cut if isinstance(self.inversion, HijackingServer) else watch_cut
            look(self, self.federation)
        else:
            assert isinstance(self.federation, KnowledgeFederation)
            self._watch_knowledge(self.federation)

    def take(self, round_number: int) -> dict[str, Any] | None:
        """What was reconstructed in a round, as plain data; None if nothing was."""
        return self._found.pop(round_number, None)

    def _see_sums(self, round_number: int, groups: Sequence[Sequence[int]], sums: Tensor) -> None:
        """See the sum of the target's group, as an update of one client that has all of its images."""
        chosen = [number for number, clients in enumerate(groups) if self.target.client in clients]
        if round_number not in self.target.rounds or not chosen:
            return
        federation = self.federation
        assert isinstance(federation, Federation)
        clients, row = groups[chosen[0]], sums[chosen[0]]
        if not bool(row.isfinite().all()) or not bool(row.any()):
            self.leave(round_number, "the sum was zero, or not finite: there is nothing to invert")
            return
        examples = [federation.data.client_examples(client) for client in clients]
        images, labels = torch.cat([one for one, _ in examples]), torch.cat([one for _, one in examples])
        if isinstance(self.inversion, TextInversion):
            self._read(round_number, row, images, [f"the sum of {len(clients)} clients: {len(images)} texts"])
            return
        note = f"the sum of {len(clients)} clients, {', '.join(map(str, clients))}: {len(images)} images"
        local, seen = federation.algorithm.in_round(round_number).training, None
        if local is not None:
            single = [replayable_steps(local, len(federation.data.clients[client])) for client in clients]
            seen = steps_together(single, len(images))
            if seen.steps > 1:
                note += "; their local steps are read as one client's, with batches of all of them: approximate"
        part = SharedPart.of(federation, row, None, "initial")
        observation = server_view(
            part.model,
            part.update,
            ClientWork(images, labels, seen, unsent=part.unsent, smoothing=smoothing_of(local)),
            self.known,
            num_classes=self.dataset.num_classes,
            normalization=federation.data.normalization,
            distortion=self._distortion_of_sum(federation, clients),
            order=self.streams.torch("attack", "labels", round_number),
        )
        self.reconstruct(round_number, observation, images, labels, [note, *remarks_on_sum(federation, clients)])

    def _read(self, round_number: int, row: Tensor, texts: Tensor, notes: Sequence[str] = ()) -> None:
        assert isinstance(self.federation, Federation)
        read = read_texts(
            self.inversion, self.federation, row, texts, self.dataset, self.streams, round_number, self.folder
        )
        said = [*notes, *read["notes"], *self._deceived(round_number)]
        self._found[round_number] = {"client": self.target.client, **read, "notes": said}

    def _see_summed_replies(self, round_number: int, groups: Sequence[Sequence[int]], sums: Tensor) -> None:
        """Look at the sum of what the target's group makes of models that were made for it, beside the round."""
        chosen = [clients for clients in groups if self.target.client in clients]
        if round_number not in self.target.rounds or not chosen:
            return
        assert self.sent is not None
        assert isinstance(self.federation, Federation)
        assert self.federation.secure_aggregation is not None
        fewest, visit = self.federation.secure_aggregation.fewest, GroupVisit.of(self.sent, chosen[0], round_number)
        if self.target.client not in visit.accepted or len(visit.accepted) < fewest:
            self.leave(round_number, visit.refusal, **visit.asked)
            return
        replies = SummedReplies(self.sent, visit.accepted, round_number)
        if replies.empty:
            self.leave(round_number, "the sum was zero, or not finite: there is nothing to invert", **visit.asked)
            return
        notes = [replies.note, *([visit.refusal] if visit.refused else [])]
        self._read_sum(round_number, replies, notes, visit.asked)

    def _read_sum(
        self, round_number: int, replies: SummedReplies, notes: Sequence[str], more: Mapping[str, Any]
    ) -> None:
        """Score the target's images as always, and of the images of all whose sum it is the share recovered."""
        order = self.streams.torch("attack", "labels", round_number)
        attempts = [
            self._attempt(round_number, part.observation, part.images, part.labels)
            for part in replies.parts(self.known, order)
        ]
        scores = [image.recovered for attempt in attempts for image in attempt.scores.images]
        self._record(round_number, attempts[0].first(replies.target_images), notes)
        self._found[round_number] |= {"group_images": len(scores), "group_recovered": fmean(scores), **more}

    def _see_updates(self, round_number: int, clients: Sequence[int], rows: Tensor) -> None:
        if round_number not in self.target.rounds or self.target.client not in clients:
            return
        federation = self.federation
        assert isinstance(federation, Federation)
        if self.sent is not None:
            self._see_reply(round_number, federation, self.sent)
            return
        client, row = self.target.client, rows[list(clients).index(self.target.client)]
        if not bool(row.isfinite().all()) or not bool(row.any()):
            self.leave(round_number, "its update was zero, or not finite: there is nothing to invert")
            return
        images, labels = federation.data.client_examples(client)
        if isinstance(self.inversion, TextInversion):
            self._read(round_number, row, images)
            return
        local = federation.algorithm.in_round(round_number).training
        part = SharedPart.of(federation, row, client, self.knowledge.personal_layers or "initial")
        model, buffers = part.model, None
        if federation.received_statistics is not None:
            buffers = federation.trainer.statistics.named(
                federation.received_statistics[list(clients).index(client)].detach()
            )
            model = started_afresh(model) if federation.bn == "reset" else model
        steps = None if local is None else replayable_steps(local, len(images))
        observation = server_view(
            model,
            part.update,
            ClientWork(images, labels, steps, buffers=buffers, unsent=part.unsent, smoothing=smoothing_of(local)),
            self.known,
            num_classes=self.dataset.num_classes,
            normalization=federation.data.normalization,
            distortion=self._distortion(row, local),
            order=self.streams.torch("attack", "labels", round_number),
        )
        self.reconstruct(round_number, observation, images, labels)

    def _see_reply(self, round_number: int, federation: Federation, sent: SentModels) -> None:
        """Look at what the client makes of a model that was made for it, beside the round."""
        client = self.target.client
        model = sent.model(client, round_number)
        asked, reasons = sent.inspected(client, model, round_number)
        if reasons:
            self.leave(round_number, f"the client refused the model: {reasons}", refused=True)
            return
        reply = sent.reply(model, client, round_number)
        if not bool(reply.row.isfinite().all()) or not bool(reply.row.any()):
            self.leave(round_number, "its update was zero, or not finite: there is nothing to invert")
            return
        images, labels = federation.data.client_examples(client)
        observation = server_view(
            started_afresh(model) if federation.bn == "reset" else model,
            reply.layout.views(reply.row),
            ClientWork(images, labels, sent.training(client, round_number), buffers=reply.buffers),
            self.known,
            num_classes=self.dataset.num_classes,
            normalization=federation.data.normalization,
            distortion=reply.distortion,
            order=self.streams.torch("attack", "labels", round_number),
        )
        notes = ["the model was made for this client, beside the round: the federation went on with the honest one"]
        self.reconstruct(round_number, observation, images, labels, notes)
        if asked:
            self._found[round_number]["refused"] = False

    def _distortion(self, row: Tensor, local: LocalTraining | None) -> Distortion | None:
        """What the server can tell of the client's defenses; None where it has none, or is not told of them."""
        federation = self.federation
        assert isinstance(federation, Federation)
        if not self.knowledge.defense:
            return None
        distortion = (
            federation.client_defenses.known(row, self.target.client) if federation.client_defenses.transforms else None
        )
        if federation.privacy is None:
            return distortion
        private = federation.privacy.known(federation.trainer.layout.shapes, self.target.client, local)
        return private if distortion is None else private.then(distortion)

    def _distortion_of_sum(self, federation: Federation, clients: Sequence[int]) -> Distortion | None:
        """What the server can tell of the clients' defenses in their sum; None where they have none."""
        if not (self.knowledge.defense and federation.client_defenses.transforms):
            return None
        return federation.client_defenses.known_of_sum(federation.coefficients(clients))

    def _watch_knowledge(self, federation: KnowledgeFederation) -> None:
        # Before any training, and before a kept state is restored: what the server handed out.
        self._initial = deepcopy(federation.clients.extractor)
        federation.observers.append(self._see_knowledge)

    def _see_knowledge(self, round_number: int, client: int, message: Knowledge) -> None:
        if round_number not in self.target.rounds or client != self.target.client:
            return
        federation = self.federation
        assert isinstance(federation, KnowledgeFederation)
        exact = self.knowledge.extractor != "initial"
        extractor = self._initial
        if exact:
            federation.clients.load(client)
            extractor = federation.clients.extractor
        asked = self.target.images or MOST_FEATURES
        notes = []
        if self.target.images and asked > len(message.features):
            notes = [f"the client has {len(message.features)} images, not {asked}"]
        chosen = slice(asked)
        if not bool(message.features[chosen].isfinite().all()):
            self.leave(round_number, "its feature maps were not finite: there is nothing to invert")
            return
        images, labels = federation.data.examples(federation.clients.examples[client][chosen])
        observation = FeatureObservation(
            extractor,
            message.features[chosen],
            self.dataset.image_shape,
            scale=pixel_scale(federation.data.normalization),
            labels=message.labels[chosen],
            exact=exact,
        )
        self.reconstruct(round_number, observation, images, labels, notes)

    def _deceived(self, round_number: int) -> list[str]:
        """What else its reader should know."""
        if self.target.client not in self.federation.threat.in_round(round_number):
            return []
        return [f"client {self.target.client} is Byzantine: what it sent need not be what it trained"]

    def leave(self, round_number: int, why: str, **more: Any) -> None:
        self._found[round_number] = {"client": self.target.client, "metrics": None, "notes": [why], **more}

    def reconstruct(
        self, round_number: int, observation: Any, images: Tensor, labels: Tensor, notes: Sequence[str] = ()
    ) -> None:
        self._record(round_number, self._attempt(round_number, observation, images, labels), notes)

    def _attempt(self, round_number: int, observation: Any, images: Tensor, labels: Tensor) -> Attempt:
        generator = self.streams.torch("attack", "round", round_number)
        return attempted(
            self.inversion,
            observation,
            images,
            labels,
            mean_image=self.mean_image,
            lpips=self.lpips,
            generator=generator,
        )

    def _record(self, round_number: int, attempt: Attempt, notes: Sequence[str]) -> None:
        reconstruction, scores, metrics = attempt.reconstruction, attempt.scores, attempt.scores.metrics
        self._found[round_number] = {
            "client": self.target.client,
            "images": len(attempt.originals),
            "metrics": {name: metrics[name] for name in of_source("inversion") if name in metrics},
            "iterations": reconstruction.iterations,
            "seconds": round(attempt.seconds, 3),
            "lpips": scores.lpips,
            "notes": [*notes, *reconstruction.notes, *self._deceived(round_number)],
        }
        self._draw(round_number, attempt.originals, reconstruction, scores)

    def _draw(self, round_number: int, originals: Tensor, reconstruction: Reconstruction, scores: Scores) -> None:
        if reconstruction.images is None:
            return
        classes = self.dataset.classes
        pairs = [
            Pair(
                original,
                reconstruction.images[image_score.reconstruction].cpu(),
                classes[image_score.true_label],
                None if image_score.label is None else classes[image_score.label],
                image_score,
            )
            for original, image_score in zip(originals, scores.images, strict=True)
        ]
        folder = self.folder / "leakage" / f"round-{round_number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        title = f"{self.name}, client {self.target.client}, round {round_number}"
        draw_reconstruction(folder, [pairs], title)
        recovered = torch.stack([pair.found for pair in pairs])
        rows = [{"caption": pair.caption, "label_caption": pair.label, **pair.score.as_json()} for pair in pairs]
        about = {"inversion": self.name, "client": self.target.client, "round": round_number, "lpips": scores.lpips}
        write_tiles(folder, originals, recovered, rows, about)
