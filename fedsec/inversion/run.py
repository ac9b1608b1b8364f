"""One inversion from its settings to its result: client, attack, scores, pictures."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from fedsec.arithmetic import arithmetic
from fedsec.data.images import normalize
from fedsec.environment import environment
from fedsec.errors import printable
from fedsec.files import made_folder
from fedsec.inversion import preparation, report
from fedsec.inversion.client import observe
from fedsec.inversion.command import command_of
from fedsec.inversion.features import Likeness, compare, mean_likeness, true_features
from fedsec.inversion.images import Victims, choose
from fedsec.inversion.malicious import sent_model
from fedsec.inversion.progress import InversionProgress, TrainingProgress
from fedsec.inversion.result import InversionResult, from_snapshot, write
from fedsec.inversion.server_view import has_batch_statistics
from fedsec.inversion.settings import InversionSettings
from fedsec.inversion.written import clear
from fedsec.metrics.evaluation import evaluate
from fedsec.metrics.images import Scores, merge, score
from fedsec.models.training import Training, train, trained
from fedsec.report.console import closing_console, default_console, say
from fedsec.report.progress_lines import activity
from fedsec.seeds import Streams
from fedsec.tasks import Classification
from fedsec.threat import Inversion, Observation, Reconstruction, Snapshot

__all__ = ["run"]


def run(settings: InversionSettings, *, console: Console | None = None, writes: bool = True) -> InversionResult:
    """Simulate clients, attack their updates, measure and draw what comes back.

    Args:
        settings: what to do.
        console: where to report; by default a notebook has a line of progress, and elsewhere nothing is shown.
        writes: whether to leave files, in `settings.out` or else below `inversions/`.

    Raises:
        InputError: it cannot be done as asked.
        KeyboardInterrupt: the user stopped it before the attack had anything to keep.
    """
    console = default_console(console)
    with activity(console, "preparing"):
        started = _Run(settings, console, writes)
    with preparation.threads_of_torch(started.threads), arithmetic(started.device):
        return started.finish()


class _Run:
    def __init__(self, settings: InversionSettings, console: Console, writes: bool = True) -> None:
        self.settings, self.console = settings, console
        self.streams = Streams(settings.seed)
        self.device = preparation.choose_device(settings.device)
        self.victims = choose(settings, self.streams)
        self.originals = self.victims.pixels
        self._mean_images = self.victims.mean_image.expand_as(self.originals[0])
        settings.normalization.check_shape(self.victims.input_shape)
        settings.check_batch(self.victims.images.shape[1])
        self.model = preparation.build_model(settings, self.victims, self.streams.seed("init")).to(self.device)
        self.notes = [*self.victims.notes, *preparation.remarks_on(settings, self.model)]
        self.defense = preparation.build_defense(settings)
        batch = normalize(self.victims.images[0].to(self.device), settings.normalization)
        limit = torch.get_num_threads()
        self.threads = settings.threads or preparation.paying_threads(self.model, batch, limit)
        with preparation.threads_of_torch(self.threads):
            self.name, self.inversion = self._method()
        self.root = (settings.out or self._folder()) if writes else None
        self.lpips, self.lpips_note = preparation.load_lpips(settings)

    def finish(self) -> InversionResult:
        chosen = " (chosen; --inversion takes others)" if self.settings.inversion is None else ""
        self._say(
            f"inversion {self.name}{chosen} on {self.settings.model_name}, {_batches(self.victims)} from "
            f"{self.victims.source}"
        )
        for note in self.notes:
            self._say(f"note: {note}")
        if self.root is not None:
            made_folder(self.root, "--out")
        accuracy = self._train()
        observations = self._observe(self._sent())
        progress = InversionProgress(self.console, self.originals, self._picture(), keep_frames=self.settings.gif)
        begun = time.perf_counter()
        try:
            reconstructions = self._reconstruct(observations, progress)
            seconds = time.perf_counter() - begun
            return self._report(observations, reconstructions, progress, seconds, accuracy)
        finally:
            progress.discard()

    def _say(self, text: str) -> None:
        say(self.console, text)

    def _method(self) -> tuple[str, Inversion]:
        given = self.settings.inversion
        if isinstance(given, Inversion):
            return type(given).__name__, given
        name = given or preparation.best_inversion(self.settings, self.model, self._observe(self.model, trials=1)[0])
        return name, preparation.build_inversion(self.settings, name)

    def _folder(self) -> Path:
        model = self.settings.model_name.replace(":", ".").replace("/", ".")
        return Path("inversions") / f"{self.name}-{model}-{self.settings.fingerprint()}"

    def _picture(self) -> Path | None:
        """Where the best so far is shown; nowhere if something else lies there, because it is removed at the end."""
        if self.root is None:
            return None
        path = self.root / "progress.png"
        if path.exists():
            self._say(f"note: {path} was there before and is left as it is; no picture is drawn while the attack runs")
            return None
        return path

    def _train(self) -> float | None:
        """Train the model if it is to be; its accuracy on the test images."""
        settings, split, test = self.settings, self.victims.train, self.victims.test
        if not settings.train_epochs or split is None or test is None:
            return None
        # An attack that cannot be used says so at once: it is shown the untrained model first.
        with suppress(_EnoughError):
            self.inversion.reconstruct_many(self._observe(self._sent(), trials=1), watch=_enough)
        training = Training(settings.train_epochs)
        epochs = settings.train_epochs
        seed = self.streams.seed("training")
        with TrainingProgress(self.console, settings.model_name, epochs) as watch:
            if settings.own_model:
                generator = torch.Generator().manual_seed(seed)
                train(self.model, split, settings.normalization, training, generator=generator, watch=watch)
            else:
                architecture = f"{settings.model} {sorted(settings.model_options.items())}"
                constants = settings.normalization
                trained(self.model, split, constants, training, seed=seed, architecture=architecture, watch=watch)
        images, labels = test.images.to(self.device), test.labels.to(self.device)
        task = Classification(self.victims.num_classes)
        evaluation = evaluate(self.model, images, labels, settings.normalization, task)
        accuracy = evaluation.metrics["accuracy"]
        self._say(f"the model classifies {100 * accuracy:.1f}% of the test images correctly")
        return accuracy

    def _sent(self) -> nn.Module:
        """The model that the clients receive."""
        victims, settings = self.victims, self.settings
        return sent_model(
            self.inversion,
            self.model,
            input_shape=victims.input_shape,
            num_classes=victims.num_classes,
            batch_size=victims.images.shape[1],
            normalization=settings.normalization,
            local=settings.local,
            auxiliary=settings.auxiliary,
            others=victims.train,
            generator=self.streams.torch("attack", "craft"),
        )

    def _observe(self, model: nn.Module, trials: int | None = None) -> list[Observation]:
        settings, victims = self.settings, self.victims
        pairs = zip(victims.images[:trials], victims.labels[:trials], strict=True)
        return [
            observe(
                model,
                images.to(self.device),
                labels.to(self.device),
                num_classes=victims.num_classes,
                normalization=settings.normalization,
                local=settings.local,
                mode=settings.client_mode,
                knowledge=settings.knowledge,
                defense=self.defense,
                noise=self.streams.torch("defense", trial),
                generator=self.streams.torch("client", trial),
            )
            for trial, (images, labels) in enumerate(pairs)
        ]

    def _reconstruct(
        self, observations: Sequence[Observation], progress: InversionProgress
    ) -> tuple[Reconstruction, ...]:
        try:
            with progress:
                generator = self.streams.torch("attack")
                return tuple(self.inversion.reconstruct_many(observations, generator=generator, watch=progress))
        except KeyboardInterrupt:
            # It came where the attack does not listen; the best that it has shown is not lost.
            if progress.last is None:
                raise
            return from_snapshot(progress.last)

    def _report(
        self,
        observations: Sequence[Observation],
        reconstructions: tuple[Reconstruction, ...],
        progress: InversionProgress,
        seconds: float,
        accuracy: float | None,
    ) -> InversionResult:
        with activity(self.console, "measuring and drawing"):
            scores = merge([self._score(trial, reconstruction) for trial, reconstruction in enumerate(reconstructions)])
            interrupted = any(reconstruction.interrupted for reconstruction in reconstructions)
            content = self._content(observations, reconstructions, scores, accuracy)
            content["seconds"] = round(seconds, 3)
            content["interrupted"] = interrupted
            result = InversionResult(content, self.victims, reconstructions, scores, self.root, interrupted)
            files: list[str] = []
            if self.root is not None:
                clear(self.root)
                files = write(result, self._title(interrupted), progress.frames if self.settings.gif else None)
        lines = [line for line in self._lines(result) if line]
        report.show(
            closing_console(self.console), victims=self.victims, scores=scores, result=content, lines=lines, files=files
        )
        return result

    def _content(
        self,
        observations: Sequence[Observation],
        reconstructions: Sequence[Reconstruction],
        scores: Scores,
        accuracy: float | None,
    ) -> dict[str, Any]:
        """What goes into `result.json`, but for how long it took and which files there are."""
        settings, victims = self.settings, self.victims
        measured = scores.as_json()
        metrics: dict[str, Any] = measured["metrics"]
        if accuracy is not None:
            metrics["model_accuracy"] = accuracy
        metrics |= self._feature_metrics(observations, reconstructions)
        place = environment(self.device.type, self.threads)
        defended = report.defense_words(settings.defenses, settings.defense_known)
        return {
            "inversion": self.name,
            "model": settings.model_name,
            "batch_size": victims.images.shape[1],
            "command": command_of(settings),
            "config": self._config(),
            "metrics": metrics,
            "images": [
                {"caption": caption, **row} for caption, row in zip(self._captions(), measured["images"], strict=False)
            ],
            "seconds": 0.0,
            "iterations": max(reconstruction.iterations for reconstruction in reconstructions),
            "interrupted": False,
            "verdict": report.verdict(scores),
            "defense": [{"name": name, "options": options} for name, options in settings.defenses],
            "knowledge": asdict(settings.knowledge),
            "given": report.given(observations[0], settings.knowledge, defended),
            "measured_with": measured["settings"],
            "mean_image": victims.mean_of,
            "source": victims.source,
            "out": None if self.root is None else printable(str(self.root)),
            "notes": [*self.notes, *report.notes_of(reconstructions)],
            "device": place["device"],
            "versions": {name: place[name] for name in ("fedsec", "torch", "numpy", "python")},
            "threads": place["threads"],
            "files": [],
        }

    def _score(self, trial: int, reconstruction: Reconstruction) -> Scores:
        return score(
            None if reconstruction.images is None else reconstruction.images.cpu(),
            self.originals[trial],
            labels=None if reconstruction.labels is None else reconstruction.labels.cpu(),
            true_labels=self.victims.labels[trial],
            mean_image=self.victims.mean_image,
            lpips=self.lpips,
        )

    def _feature_metrics(
        self, observations: Sequence[Observation], reconstructions: Sequence[Reconstruction]
    ) -> dict[str, Any]:
        """How close features are to the true ones, and how close the mean image's: of the trials that have any."""
        recovered, guessed = self._features(observations, reconstructions)
        if not recovered:
            return {}
        metrics: dict[str, Any] = {"feature_trials": len(recovered)}
        for name, likenesses in (("", recovered), ("_mean_image", guessed)):
            likeness = mean_likeness(likenesses) if likenesses else None
            metrics[f"feature_cosine{name}"] = None if likeness is None else likeness.cosine
            metrics[f"feature_error{name}"] = None if likeness is None else likeness.error
        return metrics

    def _features(
        self, observations: Sequence[Observation], reconstructions: Sequence[Reconstruction]
    ) -> tuple[list[Likeness], list[Likeness]]:
        batched = has_batch_statistics(self.model)
        train = batched and self.settings.client_mode == "train"
        recovered: list[Likeness] = []
        guessed: list[Likeness] = []
        for originals, observation, reconstruction in zip(self.originals, observations, reconstructions, strict=True):
            features = reconstruction.features
            truth = None if features is None else true_features(observation, originals, train=train)
            if truth is None or features is None:
                continue
            recovered.append(compare(features, truth))
            # A batch of one image only has no statistics to normalize by.
            guess = None if batched else true_features(observation, self._mean_images, train=False)
            if guess is not None:
                guessed.append(compare(guess, truth))
        return recovered, guessed

    def _config(self) -> dict[str, Any]:
        named = not isinstance(self.settings.inversion, Inversion)
        return {
            **self.settings.as_json(),
            "inversion": self.name,
            "inversion_options": self.settings.resolved_options(self.name) if named else {},
            "model_options": preparation.model_options(self.settings),
            "batch_size": self.victims.images.shape[1],
            "input_shape": list(self.victims.input_shape),
            "num_classes": self.victims.num_classes,
        }

    def _captions(self) -> list[str]:
        return [caption for row in self.victims.captions for caption in row]

    def _title(self, interrupted: bool) -> str:
        settings = self.settings
        parts = [f"batch of {self.victims.images.shape[1]}", "labels known" if settings.labels else "labels inferred"]
        if defended := report.defense_words(settings.defenses, settings.defense_known, short=True):
            parts.append(defended)
        if interrupted:
            parts.append("interrupted")
        return f"{self.name} on {settings.model_name}, {', '.join(parts)}"

    def _lines(self, result: InversionResult) -> list[str | None]:
        content, scores = result.content, result.scores
        mean = f"mean image: {self.victims.mean_of}" if scores.images and self.victims.train is None else None
        steps = f", {content['iterations']:,} iterations" if content["iterations"] else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return [
            report.labels_line(scores, self.settings.labels),
            report.features_line(content["metrics"], len(result.reconstructions)),
            content["given"],
            mean,
            *(f"note: {note}" for note in content["notes"] if note not in self.notes),
            self.lpips_note if scores.images else None,
            f"attacked for {content['seconds']:.1f} s{steps} on {content['device']}, {threads}",
            "interrupted: this is the best so far" if result.interrupted else None,
        ]


class _EnoughError(Exception):
    """An attack has shown that it can be used."""


def _enough(snapshot: Snapshot) -> None:
    raise _EnoughError


def _batches(victims: Victims) -> str:
    trials, size = victims.images.shape[:2]
    return f"a batch of {size}" if trials == 1 else f"{trials} batches of {size}"
