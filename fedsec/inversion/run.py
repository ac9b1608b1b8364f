"""One inversion from its settings to its files: client, attack, scores, pictures."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from fedsec.defense.updates import UpdateTransform, compose
from fedsec.environment import environment
from fedsec.errors import InputError
from fedsec.inversion import report
from fedsec.inversion.client import Grants, has_batch_statistics, observe
from fedsec.inversion.features import Likeness, compare, mean_likeness, true_features
from fedsec.inversion.images import Victims, choose
from fedsec.inversion.outcome import Outcome, clear, from_snapshot, write
from fedsec.inversion.progress import Progress
from fedsec.inversion.settings import Settings
from fedsec.matching.head import find_head
from fedsec.metrics.evaluation import evaluate
from fedsec.metrics.images import Scores, merge, score
from fedsec.metrics.lpips import BACKBONES, Lpips, MissingWeightsError
from fedsec.models import build
from fedsec.models.training import Training, train, trained
from fedsec.models.user_models import load_model
from fedsec.plugins import registry
from fedsec.report.progress import duration
from fedsec.seeds import Streams
from fedsec.tasks import Classification
from fedsec.threat import Inversion, Observation, Reconstruction, Snapshot

__all__ = ["Outcome", "invert"]


def invert(settings: Settings, *, console: Console | None = None) -> Outcome:
    """Simulate clients, attack their updates, measure and draw what comes back.

    Args:
        settings: what to do.
        console: where to report; None for silence.

    Raises:
        InputError: it cannot be done as asked.
        KeyboardInterrupt: the user stopped it before the attack had anything to keep.
    """
    return _Run(settings, console or Console(quiet=True)).finish()


class _Run:
    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings, self.console = settings, console
        self.streams = Streams(settings.seed)
        self.device = _device(settings.device)
        self.victims = choose(settings, self.streams)
        self.originals = self.victims.pixels
        self._mean_images = self.victims.mean_image.expand_as(self.originals[0])
        settings.normalization.check_channels(self.victims.input_shape[0])
        settings.check_batch(self.victims.images.shape[1])
        self.model = self._model()
        self.notes = [*self.victims.notes, *_without_effect(settings, self.model)]
        self.defense = _defense(settings)
        self.name, self.options, self.attack = self._attack()
        self.root = settings.out or self._folder()
        self.lpips, self.lpips_note = _lpips(settings)

    def finish(self) -> Outcome:
        self._say(
            f"attack {self.name}{' (chosen; --attack takes others)' if self.settings.attack is None else ''} on "
            f"{self.settings.model}, {_batches(self.victims)} from {self.victims.source}"
        )
        for note in self.notes:
            self._say(f"note: {note}")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {self.root}: cannot be used as a folder ({error.strerror or error})") from error
        accuracy = self._train()
        observations = self._observe()
        progress = Progress(self.console, self.originals, self._picture(), keep_frames=self.settings.gif)
        begun = time.perf_counter()
        try:
            found = self._reconstruct(observations, progress)
            seconds = time.perf_counter() - begun
            return self._report(observations, found, progress, seconds, accuracy)
        finally:
            progress.discard()

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _model(self) -> nn.Module:
        settings, victims = self.settings, self.victims
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.streams.seed("init"))
            if settings.own_model:
                if settings.model_options:
                    raise InputError("--model-option belongs to fedsec's models; a factory of your own takes none")
                model = load_model(settings.model, victims.input_shape, victims.num_classes)
            else:
                model = build(settings.model, victims.input_shape, victims.num_classes, **settings.model_options)
        return model.float().to(self.device)

    def _attack(self) -> tuple[str, dict[str, Any], Inversion]:
        name = self.settings.attack or self._best()
        options = self.settings.resolved_attack_options(name)
        attack: Inversion = registry.load("inversion", name)(**options)
        return name, options, attack

    def _best(self) -> str:
        """The exact method where it applies, the general one elsewhere; the one that needs no last layer without it."""
        observation = self._observe(trials=1)[0].as_gradient()
        head = find_head(observation)
        if head is None or head.weight_name not in observation.update:
            return "dlg" if self.settings.labels == "infer" else "inverting_gradients"
        if self.defense is not None:
            # The exact method's equations do not survive most defenses; one attack for all makes defenses comparable.
            return "inverting_gradients"
        small = observation.batch_size < observation.num_classes
        if small and observation.local is None and _is_smooth(self.model):
            return "decoupled"
        return "inverting_gradients"

    def _folder(self) -> Path:
        model = self.settings.model.replace(":", ".").replace("/", ".")
        return Path("inversions") / f"{self.name}-{model}-{self.settings.fingerprint()}"

    def _picture(self) -> Path | None:
        """Where the best so far is shown; nowhere if something else lies there, because it is removed at the end."""
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
            self.attack.reconstruct_many(self._observe(trials=1), watch=_enough)
        training = Training(settings.train_epochs)
        epochs = settings.train_epochs
        self._say(f"training {settings.model} for {epochs} epoch{'' if epochs == 1 else 's'}")
        begun = time.monotonic()

        def watch(epoch: int, loss: float) -> None:
            self._say(f"epoch {epoch}/{epochs}: loss {loss:.4g} ({duration(time.monotonic() - begun)})")

        seed = self.streams.seed("training")
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

    def _observe(self, trials: int | None = None) -> list[Observation]:
        settings, victims = self.settings, self.victims
        pairs = zip(victims.images[:trials], victims.labels[:trials], strict=True)
        return [
            observe(
                self.model,
                images.to(self.device),
                labels.to(self.device),
                num_classes=victims.num_classes,
                normalization=settings.normalization,
                local=settings.local,
                mode=settings.client_mode,
                grants=Grants(settings.labels == "known", settings.statistics, settings.adaptive),
                defense=self.defense,
                noise=self.streams.torch("defense", trial),
                generator=self.streams.torch("client", trial),
            )
            for trial, (images, labels) in enumerate(pairs)
        ]

    def _reconstruct(self, observations: Sequence[Observation], progress: Progress) -> tuple[Reconstruction, ...]:
        try:
            with progress:
                generator = self.streams.torch("attack")
                return tuple(self.attack.reconstruct_many(observations, generator=generator, watch=progress))
        except KeyboardInterrupt:
            # It came where the attack does not listen; the best that it has shown is not lost.
            if progress.last is None:
                raise
            return from_snapshot(progress.last)

    def _report(
        self,
        observations: Sequence[Observation],
        found: tuple[Reconstruction, ...],
        progress: Progress,
        seconds: float,
        accuracy: float | None,
    ) -> Outcome:
        settings, victims = self.settings, self.victims
        scores = merge([self._score(trial, each) for trial, each in enumerate(found)])
        told = scores.as_json()
        interrupted = any(each.interrupted for each in found)
        measured: dict[str, Any] = told["metrics"]
        if accuracy is not None:
            measured["model_accuracy"] = accuracy
        reached, guessed = self._features(observations, found)
        if reached:
            measured["feature_trials"] = len(reached)
            for name, likenesses in (("", reached), ("_mean_image", guessed)):
                like = mean_likeness(likenesses) if likenesses else None
                measured[f"feature_cosine{name}"] = None if like is None else like.cosine
                measured[f"feature_error{name}"] = None if like is None else like.error
        place = environment(self.device.type, torch.get_num_threads())
        result = {
            "attack": self.name,
            "model": settings.model,
            "batch_size": victims.images.shape[1],
            "config": self._config(),
            "metrics": measured,
            "images": [
                {"caption": caption, **row} for caption, row in zip(self._captions(), told["images"], strict=False)
            ],
            "seconds": round(seconds, 3),
            "iterations": max(each.iterations for each in found),
            "interrupted": interrupted,
            "verdict": report.verdict(scores),
            "defense": [{"name": name, "options": options} for name, options in settings.defenses],
            "adaptive": settings.adaptive if settings.defense else None,
            "given": report.given(
                observations[0],
                settings.labels == "known",
                settings.statistics,
                report.defense_words(settings.defenses, settings.adaptive),
            ),
            "measured_with": told["settings"],
            "mean_image": victims.mean_of,
            "source": victims.source,
            "out": str(self.root),
            "notes": [*self.notes, *report.notes_of(found)],
            "device": place["device"],
            "versions": {name: place[name] for name in ("fedsec", "torch", "numpy", "python")},
            "threads": place["threads"],
        }
        outcome = Outcome(self.root, result, victims, found, scores, interrupted)
        clear(self.root)
        files = write(outcome, self._title(interrupted), progress.frames if settings.gif else None)
        lines = [line for line in self._lines(outcome) if line]
        report.show(self.console, victims=victims, scores=scores, result=result, lines=lines, files=files)
        return outcome

    def _score(self, trial: int, found: Reconstruction) -> Scores:
        return score(
            None if found.images is None else found.images.cpu(),
            self.originals[trial],
            labels=None if found.labels is None else found.labels.cpu(),
            true_labels=self.victims.labels[trial],
            mean_image=self.victims.mean_image,
            lpips=self.lpips,
        )

    def _features(
        self, observations: Sequence[Observation], found: Sequence[Reconstruction]
    ) -> tuple[list[Likeness], list[Likeness]]:
        """How close features are to the true ones, and how close the mean image's: of each trial that has any."""
        batched = has_batch_statistics(self.model)
        train = batched and self.settings.client_mode == "train"
        reached: list[Likeness] = []
        guessed: list[Likeness] = []
        for originals, observation, each in zip(self.originals, observations, found, strict=True):
            truth = None if each.features is None else true_features(observation, originals, train=train)
            if truth is None or each.features is None:
                continue
            reached.append(compare(each.features, truth))
            # A batch of one image only has no statistics to normalize by.
            guess = None if batched else true_features(observation, self._mean_images, train=False)
            if guess is not None:
                guessed.append(compare(guess, truth))
        return reached, guessed

    def _config(self) -> dict[str, Any]:
        known = (
            {} if self.settings.own_model else registry.check("model", self.settings.model, self.settings.model_options)
        )
        return {
            **self.settings.as_json(),
            "attack": self.name,
            "attack_options": self.options,
            "model_options": known,
            "batch_size": self.victims.images.shape[1],
            "input_shape": list(self.victims.input_shape),
            "num_classes": self.victims.num_classes,
        }

    def _captions(self) -> list[str]:
        return [caption for row in self.victims.captions for caption in row]

    def _title(self, interrupted: bool) -> str:
        size, labels = self.victims.images.shape[1], self.settings.labels
        told = {"known": "labels granted", "infer": "labels inferred"}[labels]
        defended = report.defense_words(self.settings.defenses, self.settings.adaptive, short=True)
        parts = [f"batch of {size}", told, *([defended] if defended else []), *(["interrupted"] if interrupted else [])]
        return f"{self.name} on {self.settings.model}, {', '.join(parts)}"

    def _lines(self, outcome: Outcome) -> list[str | None]:
        result, scores = outcome.result, outcome.scores
        known = self.settings.labels == "known"
        mean = f"mean image: {self.victims.mean_of}" if scores.images and self.victims.train is None else None
        end = None
        if outcome.interrupted:
            end = "interrupted: this is the best so far"
        steps = f", {result['iterations']:,} iterations" if result["iterations"] else ""
        return [
            report.labels_line(scores, known),
            report.features_line(result["metrics"], len(outcome.reconstructions)),
            result["given"],
            mean,
            *(f"note: {note}" for note in report.notes_of(outcome.reconstructions)),
            self.lpips_note if scores.images else None,
            f"attacked for {result['seconds']:.1f} s{steps} on {result['device']}",
            end,
        ]


class _EnoughError(Exception):
    """An attack has shown that it can be used."""


def _enough(snapshot: Snapshot) -> None:
    raise _EnoughError


def _defense(settings: Settings) -> UpdateTransform | None:
    """All defenses of the client's update as one, or None."""
    if not settings.defenses:
        return None
    return compose([registry.load("defense", name)(**options) for name, options in settings.defenses])


def _is_smooth(model: nn.Module) -> bool:
    """Whether pixels can be expected to follow from features: neither kinks, nor maxima, nor batch normalization."""
    kinks = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d)
    return not has_batch_statistics(model) and not any(isinstance(module, kinks) for module in model.modules())


def _without_effect(settings: Settings, model: nn.Module) -> list[str]:
    """A note on each option of batch normalization, where there is none."""
    if has_batch_statistics(model):
        return []
    options = []
    if settings.client_mode == "eval":
        options.append("--client-mode eval")
    if settings.bn_statistics is not None:
        options.append(f"--bn-statistics {settings.bn_statistics}")
    return [f"{option} has no effect: the model has no batch normalization" for option in options]


def _device(name: str) -> torch.device:
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise InputError("--device cuda: PyTorch finds no CUDA GPU; use --device cpu")
    return torch.device("cpu")


def _lpips(settings: Settings) -> tuple[Lpips | None, str | None]:
    """The perceptual distance, or one line of how to get it; only where it was asked for is anything downloaded."""
    try:
        return Lpips.load(settings.lpips or "alex", download=settings.lpips is not None), None
    except MissingWeightsError as error:
        if settings.lpips:
            return None, f"note: {error}"
        backbone, folder = BACKBONES["alex"], Path(torch.hub.get_dir()) / "checkpoints"
        return None, f"note: LPIPS needs weights; --lpips alex downloads them, or put {backbone.url} into {folder}"


def _batches(victims: Victims) -> str:
    trials, size = victims.images.shape[:2]
    return f"a batch of {size}" if trials == 1 else f"{trials} batches of {size}"
