"""`fedsec.invert`: what `fedsec invert` does, from Python."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from fedsec.data.dataset import Dataset
from fedsec.data.normalization import Normalization
from fedsec.data.normalization import normalization as normalization_of
from fedsec.errors import InputError
from fedsec.inversion.result import InversionResult
from fedsec.inversion.run import run
from fedsec.inversion.server_view import ClientMode, ServerKnowledge
from fedsec.inversion.settings import DEFAULT_BATCH, DEFAULT_DATASET, DEFAULT_MODEL, Classes, InversionSettings
from fedsec.inversion.texts import settings as texts
from fedsec.inversion.texts.result import TextInversionResult
from fedsec.inversion.texts.run import run_texts
from fedsec.metrics.lpips import Network
from fedsec.threat import Inversion, LocalSteps
from fedsec.threat.texts import TextInversion

__all__ = ["invert", "invert_texts"]

_LOCAL = {"steps": "local_steps", "lr": "local_lr", "batch_size": "local_batch_size"}


def invert(
    images: Any = None,
    labels: Any = None,
    *,
    dataset: str | Dataset | None = None,
    model: str | nn.Module = DEFAULT_MODEL,
    model_options: Mapping[str, Any] | None = None,
    inversion: str | Inversion | None = None,
    inversion_options: Mapping[str, Any] | None = None,
    knowledge: Mapping[str, Any] | None = None,
    local: Mapping[str, Any] | LocalSteps | None = None,
    defense: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    normalization: str | Mapping[str, Any] | Normalization = "unit",
    client_mode: ClientMode = "train",
    batch_size: int | None = None,
    trials: int = 1,
    classes: Classes | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    train_epochs: int = 0,
    iterations: int | None = None,
    restarts: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    lpips: Network | None = None,
    out: Path | str | None = None,
    gif: bool = False,
    console: Console | None = None,
) -> InversionResult:
    """Show what a server sees: recover a client's images and labels from its update.

        result = fedsec.invert(dataset="digits", model="mlp", knowledge={"labels": True}, batch_size=4)
        result.images, result.labels, result.metrics["psnr"], result.verdict

    Args:
        images: of the client, in place of a dataset's: [images, channels, height, width] (or one image without the
            first) of uint8, or of floating-point numbers in [0, 1], which are rounded to 1/255; tensors or arrays. Or
            a path, or a list of paths, of image files and folders. Arrays are one batch unless `batch_size` says less.
        labels: the class of each of those images, for arrays; by default 0, 1, ... in order.
        dataset: whose test images are attacked: a name (by default `photos`, embedded), or a dataset.
        model: a name, `package.module:factory` (whose code this runs), or a module, a copy of which is attacked.
        model_options: of a model that is named.
        inversion: a name or an object; by default the best that applies.
        inversion_options: of an inversion that is named.
        knowledge: what the attacker knows, as in a scenario: `labels` (false), `bn_statistics` (none, running, sent or
            batch), `defense` (true), `auxiliary` (0).
        local: the client's local training, in place of a single gradient: `steps`, `lr` (0.01), `batch_size` (all).
        defense: of the client's update: names or mappings such as {"name": "prune", "ratio": 0.9}, in order.
        normalization: how pixels become the model's input: unit, half, or {"mean": [..], "std": [..]}.
        client_mode: of the client's batch normalization: train or eval.
        batch_size: images of a client.
        trials: disjoint batches, attacked together.
        classes: how those of a batch mix: any, distinct or same.
        num_classes: of the model, with images of one's own.
        image_size: to which files are resized, in pixels.
        train_epochs: of the model, on the dataset, before it is attacked.
        iterations: in place of a named inversion's own budget.
        restarts: in place of a named inversion's own.
        seed: of everything random.
        device: auto, cpu or cuda.
        threads: of the CPU; by default one, or all that PyTorch has where these are faster.
        lpips: backbone of the perceptual distance (alex, vgg, squeeze), downloaded if need be.
        out: folder of pictures and files, as the command writes them; None writes none.
        gif: whether to animate the recovery there.
        console: where to report; by default a notebook has a line of progress, and elsewhere nothing is shown.

    Returns:
        Images, labels, metrics, verdict, notes and files. Interrupted by the keyboard, it is the best so far.

    Raises:
        InputError: it cannot be done as asked; the text calls settings what the command's options are called.
    """
    if images is not None and dataset is not None:
        raise InputError("images and dataset exclude each other: the images are the client's, or the dataset's are")
    pixels, paths = _images(images, labels)
    if pixels is not None and batch_size is None:
        batch_size = max(1, len(pixels[0]) // trials)
    if gif and out is None:
        raise InputError("gif: is written into a folder; expected out too")
    settings = InversionSettings(
        inversion=inversion,
        model=model,
        dataset=dataset or DEFAULT_DATASET,
        images=paths,
        pixels=pixels,
        image_size=image_size,
        num_classes=num_classes,
        batch_size=batch_size,
        classes=classes,
        **_knowledge(knowledge or {}),
        **_local(local),
        client_mode=client_mode,
        train_epochs=train_epochs,
        trials=trials,
        seed=seed,
        iterations=iterations,
        restarts=restarts,
        inversion_options=inversion_options or {},
        model_options=model_options or {},
        normalization=normalization_of(normalization),
        defense=(defense,) if isinstance(defense, str | Mapping) else tuple(defense),
        device=device,
        threads=threads,
        lpips=lpips,
        out=None if out is None else Path(out),
        gif=gif,
    )
    return run(settings, console=console, writes=out is not None)


def invert_texts(
    dataset: str | Dataset = texts.DEFAULT_DATASET,
    *,
    length: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    model: str | nn.Module = texts.DEFAULT_MODEL,
    model_options: Mapping[str, Any] | None = None,
    inversion: str | TextInversion = texts.DEFAULT_INVERSION,
    inversion_options: Mapping[str, Any] | None = None,
    local: Mapping[str, Any] | None = None,
    defense: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    trials: int = 1,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    out: Path | str | None = None,
    console: Console | None = None,
) -> TextInversionResult:
    """Show what a server reads: recover a client's texts from its update.

        result = fedsec.invert_texts("shakespeare", length=20, batch_size=2)
        result.originals, result.texts, result.metrics["rouge_l"], result.verdict

    Args:
        dataset: whose test texts are attacked: a name, or a dataset for `next_token`.
        length: of a text, in characters; by default 20.
        batch_size: texts of a client.
        model: a name (`lstm` and `transformer` for short), or a module, a copy of which is attacked.
        model_options: of a model that is named.
        inversion: a name or an object.
        inversion_options: of an inversion that is named.
        local: the client's local training, in place of a single gradient: `steps` on all texts, `lr` (0.01).
        defense: of the client's update: names or mappings such as {"name": "prune", "ratio": 0.9}, in order.
        trials: disjoint batches, each attacked for itself.
        seed: of everything random.
        device: auto, cpu or cuda.
        threads: of the CPU.
        out: folder of page and result, as the command writes them; None writes none.
        console: where to report; by default a notebook has a line of progress, and elsewhere nothing is shown.

    Returns:
        Texts, metrics beside a null baseline, verdict, notes and files.

    Raises:
        InputError: it cannot be done as asked; the text calls settings what the command's options are called.
    """
    steps = _local(local)
    if steps.pop("local_batch_size", None) is not None:
        raise InputError("local.batch_size: every step takes all of a client's texts here")
    settings = texts.TextSettings(
        dataset=dataset,
        length=length,
        batch_size=batch_size,
        model=model,
        model_options=model_options or {},
        inversion=inversion,
        inversion_options=inversion_options or {},
        **steps,
        defense=(defense,) if isinstance(defense, str | Mapping) else tuple(defense),
        trials=trials,
        seed=seed,
        device=device,
        threads=threads,
        out=None if out is None else Path(out),
    )
    return run_texts(settings, console=console, writes=out is not None)


def _knowledge(given: Mapping[str, Any]) -> dict[str, Any]:
    known = [field.name for field in fields(ServerKnowledge)]
    for key in given:
        if key not in known:
            raise InputError(f"knowledge.{key}: unknown key; expected {', '.join(known)}")
    names = {"defense": "defense_known"}
    return {names.get(key, key): value for key, value in given.items()}


def _local(given: Mapping[str, Any] | LocalSteps | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, LocalSteps):
        if given.momentum or given.weight_decay:
            raise InputError(f"local: the client trains by plain SGD; expected no momentum and no decay, got {given}")
        return {option: getattr(given, key) for key, option in _LOCAL.items()}
    for key in given:
        if key not in _LOCAL:
            raise InputError(f"local.{key}: unknown key; expected {', '.join(_LOCAL)}")
    if "steps" not in given:
        raise InputError("local: expected steps, the number of SGD steps")
    return {_LOCAL[key]: value for key, value in given.items()}


def _images(images: Any, labels: Any) -> tuple[tuple[Tensor, Tensor] | None, tuple[Path, ...]]:
    """Pixels and labels of arrays, or the paths of files."""
    paths = _paths(images)
    if images is None or paths:
        if labels is not None:
            raise InputError("labels go with images that are arrays; files have the classes of their folders")
        return None, paths
    try:
        pixels = torch.as_tensor(images).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"images: expected an array, a tensor or paths, got {type(images).__name__}") from error
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise InputError(f"images: expected [images, channels, height, width], got shape {tuple(pixels.shape)}")
    if pixels.is_floating_point():
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise InputError("images: floating-point pixels must lie in [0, 1]; give uint8 for 0..255")
        pixels = pixels.float().mul(255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise InputError(f"images: expected uint8, or floating-point numbers in [0, 1], got {pixels.dtype}")
    return (pixels, _labels(labels, len(pixels))), ()


def _paths(images: Any) -> tuple[Path, ...]:
    if isinstance(images, str | Path):
        return (Path(images),)
    if isinstance(images, list | tuple) and images and all(isinstance(path, str | Path) for path in images):
        return tuple(map(Path, images))
    return ()


def _labels(labels: Any, count: int) -> Tensor:
    if labels is None:
        return torch.arange(count) % 10
    try:
        numbers = torch.as_tensor(labels).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"labels: expected {count} whole numbers, got {labels!r}") from error
    numbers = numbers.reshape(1) if numbers.ndim == 0 else numbers
    if numbers.shape != (count,) or numbers.is_floating_point() or int(numbers.min()) < 0:
        raise InputError(f"labels: expected {count} whole numbers of at least 0, got {labels!r}")
    return numbers.long()
