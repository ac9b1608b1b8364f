"""The images that a client is robbed of: chosen from a dataset's test split, or the user's own files."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from fedsec.data import Dataset, Split, load
from fedsec.errors import InputError, printable
from fedsec.inversion import files
from fedsec.inversion.settings import DEFAULT_BATCH, DEFAULT_DATASET, InversionSettings
from fedsec.seeds import Streams

__all__ = ["Victims", "choose"]

FILE_CLASSES = 10
"""Logits of a model for images without a dataset; more if there are more class folders."""


@dataclass(frozen=True, eq=False)
class Victims:
    """Disjoint batches of private images, and what is public about images of their kind.

    Attributes:
        images: in 0..255.
        labels: their classes.
        captions: what to call each image: its class, or its file.
        classes: a name for each class.
        mean_image: of images of this kind, in [0, 1]: what anybody could guess.
        mean_of: whose mean that is.
        train: images to train the model on; None for the user's own files.
        test: images to test the model on, those to be recovered among them; likewise.
        source: where the images come from.
        notes: what was done to them, one line each.
    """

    images: UInt8[Tensor, "trials batch channels height width"]
    labels: Int64[Tensor, "trials batch"]
    captions: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    mean_image: Float[Tensor, "channels height width"]
    mean_of: str
    train: Split | None
    test: Split | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> Float[Tensor, "trials batch channels height width"]:
        """The images in [0, 1]."""
        return self.images.float().div(255)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.images.shape[2:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of logits that a model for these images has."""
        return len(self.classes)


def choose(settings: InversionSettings, streams: Streams) -> Victims:
    """The batches that the settings ask for.

    Args:
        settings: dataset or files, batch size, number of trials, and how classes mix.
        streams: the order in which images of a dataset are taken is their "victims" stream. Files are taken as given.

    Raises:
        InputError: a dataset that is absent, a file that is no image, or fewer images than are asked for.
    """
    if settings.pixels is not None:
        return _from_pixels(settings, *settings.pixels)
    return _from_files(settings) if settings.images else _from_dataset(settings, streams)


def _from_dataset(settings: InversionSettings, streams: Streams) -> Victims:
    dataset = load(settings.dataset) if isinstance(settings.dataset, str) else settings.dataset
    if dataset.task != "classification":
        raise InputError(
            f"--dataset {dataset.name}: is data for {dataset.task}, and what is reconstructed are images with classes; "
            "expected a dataset for classification (fedsec.invert_texts reads texts)"
        )
    split = dataset.test
    order = torch.from_numpy(_order(dataset, streams.numpy("victims")))
    chosen = _batches(order, split.labels, dataset.num_classes, settings, f"{dataset.name}'s test split")
    labels = split.labels[chosen]
    captions = tuple(tuple(dataset.classes[label] for label in row) for row in labels.tolist())
    mean = dataset.train.images.double().mean(0).div(255).float()
    return Victims(
        split.images[chosen],
        labels,
        captions,
        dataset.classes,
        mean,
        f"the mean of {dataset.name}'s training images",
        dataset.train,
        split,
        f"{dataset.name} ({dataset.source})",
    )


def _order(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """All test images in the order in which they are taken."""
    order = rng.permutation(len(dataset.test))
    if dataset.name != "photos":
        return order
    # The whole photographs come first in its test split: a person recognizes them best.
    whole = order < dataset.num_classes
    return np.concatenate([order[whole], order[~whole]])


def _from_files(settings: InversionSettings) -> Victims:
    image_files = files.find(settings.images)
    names = sorted({file.label for file in image_files if file.label is not None})
    count = max(settings.num_classes or FILE_CLASSES, len(names))
    classes = (*names, *(f"class {number}" for number in range(len(names), count)))
    of = [number % count if file.label is None else names.index(file.label) for number, file in enumerate(image_files)]
    labels = torch.tensor(of)
    where = f"the {len(image_files)} images given" if len(image_files) > 1 else "the one image given"
    chosen = _batches(torch.arange(len(image_files)), labels, count, settings, where)
    rows = chosen.tolist()
    images, notes = files.read([image_files[index] for row in rows for index in row], settings.side)
    if len(image_files) > chosen.numel():
        notes.append(f"{chosen.numel()} of {len(image_files)} images are used; --batch-size and --trials take more")
    if not names:
        notes.append("the images have no classes; they are labeled 0, 1, ... in order")
    return Victims(
        images.view(*chosen.shape, *images.shape[1:]),
        labels[chosen],
        tuple(tuple(printable(image_files[index].path.name) for index in row) for row in rows),
        classes,
        _photos_mean(settings.side),
        "the mean of the embedded photographs",
        None,
        None,
        ", ".join(printable(str(path)) for path in settings.images),
        tuple(notes),
    )


def _from_pixels(
    settings: InversionSettings,
    pixels: UInt8[Tensor, "images channels height width"],
    labels: Int64[Tensor, "images"],
) -> Victims:
    count = max(settings.num_classes or FILE_CLASSES, int(labels.max()) + 1)
    chosen = _batches(torch.arange(len(pixels)), labels, count, settings, f"the {len(pixels)} images given")
    channels, height, width = pixels.shape[1:]
    mean = interpolate(_photos_mean(max(height, width))[None], size=(height, width), mode="bilinear", antialias=True)[0]
    mean = mean if channels == 3 else mean.mean(0, keepdim=True).expand(channels, -1, -1).clone()
    unused = len(pixels) - chosen.numel()
    notes = (f"{chosen.numel()} of {len(pixels)} images are used; batch_size and trials take more",) if unused else ()
    return Victims(
        pixels[chosen],
        labels[chosen],
        tuple(tuple(f"image {index}" for index in row) for row in chosen.tolist()),
        tuple(f"class {number}" for number in range(count)),
        mean,
        "the mean of the embedded photographs",
        None,
        None,
        "the images given",
        notes,
    )


def _photos_mean(size: int) -> Float[Tensor, "3 size size"]:
    return interpolate(_small_photos_mean()[None], size=(size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)


@cache
def _small_photos_mean() -> Float[Tensor, "3 32 32"]:
    """Kept: cutting the photographs takes longer than many an inversion."""
    return load("photos").train.images.double().mean(0).div(255).float()


def _batches(
    order: Int64[Tensor, "candidates"],
    labels: Int64[Tensor, "candidates"],
    num_classes: int,
    settings: InversionSettings,
    where: str,
) -> Int64[Tensor, "trials batch"]:
    """Indices of disjoint batches, taken in the given order as far as the classes may mix."""
    trials, batch = settings.trials, settings.batch_size or min(DEFAULT_BATCH, len(order))
    classes = settings.classes
    if classes is None:
        whole = settings.dataset == DEFAULT_DATASET and not settings.own_images and batch <= num_classes
        classes = "distinct" if whole else "any"
    wanted = f"{trials} {'batch' if trials == 1 else 'batches'} of {batch}"
    if trials * batch > len(order):
        raise InputError(f"{wanted}: only {len(order)} {'image' if len(order) == 1 else 'images'} in {where}")
    if classes == "distinct" and batch > num_classes:
        raise InputError(
            f"--distinct-classes: a batch of {batch} cannot have different classes, there are {num_classes}"
        )
    queues: dict[int, list[int]] = {}
    for index in order.tolist():
        queues.setdefault(0 if classes == "any" else int(labels[index]), []).append(index)
    chosen = []
    for number in range(trials):
        row = list(_one_each(queues, batch) if classes == "distinct" else _all_from_one(queues, batch))
        if len(row) < batch:
            kind = "different classes" if classes == "distinct" else "one class"
            raise InputError(f"{wanted}: {where} has not enough images of {kind} for more than {number}")
        chosen.append(row)
    return torch.tensor(chosen)


def _one_each(queues: dict[int, list[int]], batch: int) -> Iterator[int]:
    """The next image of each of `batch` classes: the fullest, so that as many batches as possible can be made."""
    for name in sorted((name for name in queues if queues[name]), key=lambda name: -len(queues[name]))[:batch]:
        yield queues[name].pop(0)


def _all_from_one(queues: dict[int, list[int]], batch: int) -> Iterator[int]:
    """The next images of the first class that has enough of them, which then queues up behind the others."""
    name = next((name for name in queues if len(queues[name]) >= batch), None)
    if name is not None:
        queues[name] = (queue := queues.pop(name))[batch:]
        yield from queue[:batch]
