"""One inversion of texts from its settings to its result: client, attack, scores, page."""

import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from fedsec.arithmetic import arithmetic
from fedsec.data import Dataset, load
from fedsec.defense.updates import compose
from fedsec.environment import environment
from fedsec.errors import InputError, count_of, printable
from fedsec.files import made_folder
from fedsec.inversion.command import text_command_of
from fedsec.inversion.preparation import choose_device, threads_of_torch
from fedsec.inversion.report import defense_words
from fedsec.inversion.texts import report
from fedsec.inversion.texts.client import observe_texts
from fedsec.inversion.texts.result import TextInversionResult, write
from fedsec.inversion.texts.scores import BatchScores, mean_metrics, measured, verdict
from fedsec.inversion.texts.settings import TextSettings
from fedsec.metrics.texts import token_shares
from fedsec.models import build
from fedsec.plugins import registry
from fedsec.report.console import default_console, say
from fedsec.report.progress_lines import activity, counted
from fedsec.seeds import Streams
from fedsec.threat.texts import TextInversion, TextObservation, TextReconstruction

__all__ = ["run_texts"]


def run_texts(settings: TextSettings, *, console: Console | None = None, writes: bool = True) -> TextInversionResult:
    """Simulate clients, read their texts off their updates, measure and show what comes back.

    Args:
        settings: what to do.
        console: where to report; by default a notebook has a line of progress, and elsewhere nothing is shown.
        writes: whether to leave files, in `settings.out` or else below `inversions/`.

    Raises:
        InputError: it cannot be done as asked.
    """
    console = default_console(console)
    streams, device = Streams(settings.seed), choose_device(settings.device)
    with threads_of_torch(settings.threads), arithmetic(device):
        with activity(console, "preparing"):
            dataset = _dataset(settings)
            model = _model(settings, dataset, streams.seed("init")).to(device)
            inversion = _inversion(settings)
            inputs, targets = _batches(settings, dataset, streams)
            observations = _observations(settings, model, dataset, inputs.to(device), targets.to(device), streams)
        what = f"{'a batch' if settings.trials == 1 else f'{settings.trials} batches'} of {settings.batch_size}"
        source = f"{dataset.name} ({dataset.source})"
        say(console, f"inversion {settings.inversion_name} on {settings.model_name}, {what} from {source}")
        begun = time.perf_counter()
        with counted(console, "attacking") as watch:
            generator = streams.torch("attack")
            reconstructions = tuple(
                inversion.reconstruct(_watched(observation, watch, trial, settings.trials), generator=generator)
                for trial, observation in enumerate(observations)
            )
        seconds = time.perf_counter() - begun
    shares = token_shares(dataset.train.targets, dataset.num_classes)
    batches = [
        measured(rows.long(), reconstruction, dataset.classes, shares, streams.numpy("null", trial))
        for trial, (rows, reconstruction) in enumerate(zip(inputs, reconstructions, strict=True))
    ]
    root = (settings.out or _folder(settings)) if writes else None
    content = _content(settings, dataset, reconstructions, batches, device) | {
        "seconds": round(seconds, 3),
        "out": None if root is None else printable(str(root)),
    }
    result = TextInversionResult(content, reconstructions, root)
    if root is not None:
        made_folder(root, "--out")
        write(result)
    lines = [content["given"], *(f"note: {note}" for note in content["notes"])]
    threads = count_of(settings.threads, "thread")
    report.show(console, content, batches, [*lines, f"attacked for {seconds:.1f} s on {content['device']}, {threads}"])
    return result


def _watched(
    observation: TextObservation, watch: Callable[[int, int], None], trial: int, trials: int
) -> TextObservation:
    """An observation whose attack says how far it is among those of all trials."""
    return replace(observation, watch=lambda done, total: watch(trial * total + done, trials * total))


def _dataset(settings: TextSettings) -> Dataset:
    if isinstance(settings.dataset, Dataset):
        return settings.dataset
    return load(settings.dataset, options=settings.dataset_options)


def _model(settings: TextSettings, dataset: Dataset, seed: int) -> nn.Module:
    if isinstance(settings.model, str):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(settings.model, dataset.input_shape, dataset.num_classes, **settings.model_options)
    model = deepcopy(settings.model).float()
    expected = (1, dataset.num_classes, *dataset.input_shape)
    try:
        outputs = model.eval()(dataset.test.inputs[:1].to(next(model.parameters()).device))
    except Exception as error:  # a user's own code
        raise InputError(f"model: a batch of one text raised {type(error).__name__}: {error}") from error
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape != expected:
        raise InputError(f"model: expected logits of shape {expected} of one text, [1, tokens, length], got {shape}")
    return model


def _inversion(settings: TextSettings) -> TextInversion:
    if isinstance(settings.inversion, TextInversion):
        return settings.inversion
    method: TextInversion = registry.load("inversion", settings.inversion)(**settings.inversion_options)
    return method


def _batches(settings: TextSettings, dataset: Dataset, streams: Streams) -> tuple[Tensor, Tensor]:
    """Disjoint batches of test texts and of the tokens that follow, [trials, batch, length] each."""
    wanted, test = settings.trials * settings.batch_size, dataset.test
    if wanted > len(test):
        raise InputError(
            f"--batch-size {settings.batch_size} --trials {settings.trials}: {wanted} texts are needed, and the test "
            f"split of {dataset.name} has {len(test)}"
        )
    chosen = torch.from_numpy(streams.numpy("victims").permutation(len(test))[:wanted])
    shape = (settings.trials, settings.batch_size, -1)
    return test.inputs[chosen].view(shape), test.targets[chosen].view(shape)


def _observations(
    settings: TextSettings, model: nn.Module, dataset: Dataset, inputs: Tensor, targets: Tensor, streams: Streams
) -> list[TextObservation]:
    transforms = [registry.load("defense", name)(**options) for name, options in settings.defenses]
    return [
        observe_texts(
            model,
            texts,
            wanted,
            num_tokens=dataset.num_classes,
            steps=settings.local_steps,
            lr=settings.lr,
            defense=compose(transforms) if transforms else None,
            noise=streams.torch("defense", trial),
        )
        for trial, (texts, wanted) in enumerate(zip(inputs, targets, strict=True))
    ]


def _folder(settings: TextSettings) -> Path:
    return Path("inversions") / f"{settings.inversion_name}-{settings.model_name}-{settings.fingerprint()}"


def _content(
    settings: TextSettings,
    dataset: Dataset,
    reconstructions: tuple[TextReconstruction, ...],
    batches: list[BatchScores],
    device: torch.device,
) -> dict[str, Any]:
    """What goes into `result.json`, but for how long it took and which files there are."""
    place = environment(device.type, settings.threads)
    length, counts = (
        dataset.input_shape[0],
        Counter(note for part in reconstructions for note in dict.fromkeys(part.notes)),
    )
    defended = defense_words(settings.defenses, known=False).removesuffix(", which the attacker did not know")
    return {
        "inversion": settings.inversion_name,
        "model": settings.model_name,
        "batch_size": settings.batch_size,
        "command": text_command_of(settings),
        "config": {**settings.as_json(), "length": length},
        "metrics": mean_metrics(batches),
        "texts": [{"trial": trial, **text} for trial, batch in enumerate(batches) for text in batch.texts],
        "tokens": [
            {
                "trial": trial,
                "client": batch.true_tokens,
                "named": batch.named_tokens,
                **{name: batch.metrics[name] for name in ("token_set", "token_set_null")},
            }
            for trial, batch in enumerate(batches)
        ],
        "iterations": 0,
        "interrupted": False,
        "verdict": verdict(batches),
        "defense": [{"name": name, "options": options} for name, options in settings.defenses],
        "given": report.given(settings.batch_size, length, settings.local_steps, settings.lr, defended),
        "source": f"{dataset.name} ({dataset.source})",
        "notes": [
            note if count == len(reconstructions) else f"{note} (in {count} of {len(reconstructions)} trials)"
            for note, count in counts.items()
        ],
        "device": place["device"],
        "versions": {name: place[name] for name in ("fedsec", "torch", "numpy", "python")},
        "threads": place["threads"],
        "files": [],
    }
