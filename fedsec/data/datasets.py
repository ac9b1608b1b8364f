"""Datasets by name. Importing this file is cheap: torch is loaded with the first dataset."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsec.data.download import Progress
from fedsec.data.normalization import Normalization, normalization
from fedsec.data.sources.cifar import CIFAR10, CIFAR100
from fedsec.data.sources.cinic import CINIC10
from fedsec.data.sources.diabetes import Diabetes
from fedsec.data.sources.digits import Digits
from fedsec.data.sources.femnist import FEMNIST
from fedsec.data.sources.idx import MNIST, FashionMNIST
from fedsec.data.sources.image_folder import ImageFolder
from fedsec.data.sources.photos import Photos
from fedsec.data.sources.shakespeare import Shakespeare
from fedsec.data.sources.source import DatasetStatus, Source
from fedsec.data.sources.zero_digits import ZeroDigits
from fedsec.data.survey import Survey, survey
from fedsec.errors import DataError, InputError
from fedsec.plugins import registry

if TYPE_CHECKING:
    from fedsec.data.dataset import Dataset, Split

_log = logging.getLogger(__name__)

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetStatus",
    "Normalization",
    "Progress",
    "Source",
    "Split",
    "Survey",
    "check",
    "load",
    "normalization",
    "status",
]


def load(
    name: str,
    root: Path | None = None,
    *,
    download: bool = True,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> "Dataset":
    """Load a dataset into memory.

    It is looked for in `root` (and `root`/name), $FEDSEC_DATA/name, $FEDSEC_DATA, the user's cache and system
    folders, in this order; then it is downloaded into the cache. In each place an image folder
    {train,test}/<class>/<image> of the right shape and number of classes will do as well; labels then number
    the class folders in alphabetical order.

    Args:
        name: a key of `DATASETS`, or a plugin's.
        root: a folder to look in first. It must exist; if it holds a part of the dataset only, that is an error.
        download: whether the network may be used.
        progress: called during a download with a file's name, the bytes so far and the bytes in all, if known.
        options: the dataset's own, as in a scenario: `{"labels": "coarse"}`.

    Raises:
        DataError: unknown name or option, or the dataset is absent, incomplete, corrupt or of another shape; the text
            says what was looked for, where, and what to do.
    """
    dataset = source_of(name, options).load(root, download=download, progress=progress)
    for note in dataset.notes:
        _log.warning("%s: %s", name, note)
    return dataset


def check(
    name: str, root: Path | None = None, *, download: bool = True, options: Mapping[str, Any] | None = None
) -> Survey:
    """Look at a dataset once before any work begins: everything that `load` would complain about is found here.

    Nothing is downloaded. What was found out about a large dataset is kept as long as its files do not change in
    name, size or time.

    Args:
        name: see `load`.
        root: see `load`.
        download: whether a dataset that can be downloaded may be absent; nothing is known of it then.
        options: see `load`.

    Returns:
        What the dataset is, its fingerprint included.

    Raises:
        DataError: see `load`.
    """
    return survey(source_of(name, options), root, download=download, options=options)


def status() -> list[DatasetStatus]:
    """What can be loaded now, plugins' datasets included, from where, and how to get the rest. Downloads nothing.

    Raises:
        DataError: a plugin that cannot be imported or brings no dataset.
    """
    plugins = (name for name in registry.entries("dataset") if name not in DATASETS)
    return [source_of(name).status() for name in (*DATASETS, *plugins)]


def source_of(name: str, options: Mapping[str, Any] | None = None) -> Source:
    """Where a dataset comes from: one of `DATASETS`, or a plugin's, with its options.

    Raises:
        DataError: unknown name or option, or a plugin that cannot be imported or brings something else.
    """
    try:
        kind = DATASETS[name] if name in DATASETS else registry.load("dataset", name)
        given = registry.check("dataset", name, options, "dataset") if options else {}
    except InputError as error:
        raise DataError(str(error)) from error
    if not (isinstance(kind, type) and issubclass(kind, Source)):
        raise DataError(f"dataset {name!r}: expected a subclass of fedsec.data.Source from its plugin, got {kind!r}")
    return kind(**given)


def __getattr__(name: str) -> Any:
    # These two need torch, which `fedsec data status` must not wait for.
    if name in ("Dataset", "Split"):
        from fedsec.data import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


DATASETS: dict[str, type[Source]] = {
    "digits": Digits,
    "zero_digits": ZeroDigits,
    "photos": Photos,
    "fashion_mnist": FashionMNIST,
    "mnist": MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cinic10": CINIC10,
    "femnist": FEMNIST,
    "image_folder": ImageFolder,
    "diabetes": Diabetes,
    "shakespeare": Shakespeare,
}
