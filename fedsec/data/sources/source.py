"""Where a dataset is looked for, in which order, and what is said when it is nowhere. Imports nothing heavy."""

import logging
import os
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from fedsec.data import decoded, folders
from fedsec.data.cache import cache_folder, install
from fedsec.data.download import Progress
from fedsec.errors import DataError, printable

if TYPE_CHECKING:
    from fedsec.data.dataset import Dataset, Split

VARIABLE = "FEDSEC_DATA"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A folder in which a dataset may lie.

    Args:
        folder: the folder; it need not exist.
        why: how it came to be looked in, for messages.
        shared: the folder is not this dataset's own, so what lies in it must first be recognized.
    """

    folder: Path
    why: str
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.folder} ({self.why})"


@dataclass(frozen=True)
class Location:
    """What a place holds.

    Args:
        folder: where the files lie.
        layout: `files` (the dataset's own), `images` (an image folder) or `embedded`.
        lacks: what is missing for it to be complete.
    """

    folder: Path
    layout: str = "files"
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetStatus:
    """Whether a dataset can be loaded now.

    Args:
        name: the name in a scenario.
        present: whether it can be loaded without a download.
        where: where it was found; None if it was not.
        looked_in: every place that was looked in, up to the one where it was found.
        how_to_get: what to do if it is absent.
        description: one line.
    """

    name: str
    present: bool
    where: str | None
    looked_in: list[str]
    how_to_get: str
    description: str


class Contents(NamedTuple):
    """What a folder holds, as `Source.read` gives it; a plain tuple of the first three will do.

    Args:
        train: training examples.
        test: test examples.
        classes: names of the classes; none where targets are numbers.
        superclasses: the coarse class of each class; none where classes form no tree.
        groups: whom examples come from, by name; none where nobody knows.
    """

    train: "Split"
    test: "Split"
    classes: tuple[str, ...]
    superclasses: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()


class Source(ABC):
    """One dataset by name: where it lies and how it is read.

    A subclass states what it is in class variables and fills in `locate`, `read` and, if there is something to
    download, `fetch`. The order of places, image folders, the cache and all messages are the same for all. What its
    constructor takes are options of a scenario's `dataset` section; defaults mean what there was before them.
    """

    name: ClassVar[str]
    layout: ClassVar[str]
    """In words, the files that a folder must hold."""
    input_shape: tuple[int, ...] | None = None
    """Of one input; None if only the data tell. Options may change it."""
    num_classes: int | None = None
    """None if only the data tell; 0 if targets are numbers. Options may change it."""
    task: ClassVar[str] = "classification"
    """What is learned of it, a key of `fedsec.tasks.TASKS`."""
    has_groups: ClassVar[bool] = False
    """Whether it tells whom each example comes from."""
    has_superclasses: ClassVar[bool] = False
    """Whether it tells a coarse class of each class, as its options stand by default."""
    system_folders: ClassVar[tuple[str, ...]] = ()
    embedded_in: ClassVar[str | None] = None
    """The package that carries the data, if one does."""
    downloadable: ClassVar[bool] = False
    how_to_get: ClassVar[str]

    def locate(self, place: Place) -> Location | None:
        """Find the dataset's own files (not an image folder) in a place, by name and without reading them all."""
        return None

    @abstractmethod
    def read(self, folder: Path) -> "Contents | tuple[Split, Split, tuple[str, ...]]":
        """Training split, test split and class names from the folder that `locate` found, and what else it tells."""

    def files(self, location: Location) -> list[Path]:
        """The files that decide what `load` reads, if a change of one can be told by its size and time.

        None of them makes `check` read the dataset whenever it is asked; right for small or embedded data.
        """
        if location.layout != "images":
            return self.own_files(location.folder)
        paths = folders.image_paths(location.folder)
        return paths if len(paths) >= decoded.CACHED_FROM else []

    def own_files(self, folder: Path) -> list[Path]:
        """Those of the dataset's own layout in the folder that `locate` found."""
        return []

    def fetch(self, folder: Path, progress: Progress | None) -> None:
        """Download the dataset's files into an empty folder, in which `locate` then finds them."""
        raise DataError(f"{self.name} cannot be downloaded")

    def load(self, root: Path | None, *, download: bool, progress: Progress | None) -> "Dataset":
        """Find, if need be download, read and check the dataset.

        Raises:
            DataError: absent, incomplete, corrupt, of another shape, or the download failed.
        """
        from fedsec.data.dataset import Dataset
        from fedsec.data.images import shape_text

        location, looked = self.search(root)
        if location is None and download and self.downloadable:
            location = self._download(looked, progress)
        if location is None:
            raise DataError(self._absent(looked, "Downloads are switched off.\n" if self.downloadable else ""))
        if root is not None and not location.folder.is_relative_to(_absolute(root)):
            note = f"{self.name}: nothing of it lies in root {root}; using {location.folder}"
            _log.warning("%s", printable(note))
        source = self._where(location)
        notes: tuple[str, ...] = ()
        if location.layout == "images":
            train, test, classes, notes = decoded.read_splits(location.folder)
            contents = Contents(train, test, classes)
        else:
            contents = Contents(*self.read(location.folder))
        train, test, classes, superclasses, groups = contents
        dataset = Dataset(self.name, train, test, classes, source, notes, self.task, superclasses, groups)
        if self.input_shape is not None and dataset.input_shape != self.input_shape:
            raise DataError(
                f"{self.name}: images in {source} are {shape_text(dataset.input_shape)}, expected "
                f"{shape_text(self.input_shape)} (channels x height x width; nothing is resized silently)"
            )
        if self.num_classes is not None and dataset.num_classes != self.num_classes:
            raise DataError(f"{self.name}: {source} holds {dataset.num_classes} classes, expected {self.num_classes}")
        return dataset

    def status(self) -> DatasetStatus:
        """Where the dataset would be loaded from now. Never downloads, never raises."""
        location, looked = self.search(None)
        where = None if location is None else self._where(location)
        summary = (type(self).__doc__ or "").partition("\n")[0]
        return DatasetStatus(self.name, location is not None, where, looked, self.how_to_get, summary)

    def search(self, root: Path | None) -> tuple[Location | None, list[str]]:
        """The first place that holds the whole dataset, and all places looked in so far.

        Raises:
            DataError: `root` does not exist, or holds a part of the dataset only.
        """
        if root is not None and not _is_folder(_absolute(root)):
            raise DataError(
                f"{self.name}: root {textwrap.shorten(str(root), 200)} is not a folder; expected one with "
                f"{self._wanted()}"
            )
        looked: list[str] = []
        for place in self.places(root):
            try:
                location = self._look(place)
            except (OSError, DataError) as error:
                looked.append(f"{place}: {error}")
                continue
            if location is not None and not location.lacks:
                return location, [*looked, str(place)]
            if location is not None and place.why == "root":
                raise DataError(
                    f"{self.name}: {location.folder} is incomplete: it lacks {', '.join(location.lacks)}; expected "
                    f"{self._wanted()}"
                )
            looked.append(str(place) + (f": incomplete, lacks {', '.join(location.lacks)}" if location else ""))
        return None, looked

    def places(self, root: Path | None) -> Iterable[Place]:
        """Where to look, in this order: the scenario's root, $FEDSEC_DATA, the user's cache, system folders."""
        if root is not None:
            yield Place(_absolute(root), "root")
            yield Place(_absolute(root) / self.name, "root")
        if self.embedded_in is not None:
            yield Place(_package_folder(self.embedded_in), "embedded")
            return
        anybodys = self.input_shape is None
        if anybodys and root is not None:
            return  # What lies elsewhere is other images, not another copy of these.
        if os.environ.get(VARIABLE):
            data = _absolute(Path(os.environ[VARIABLE]))
            yield Place(data / self.name, f"${VARIABLE}/{self.name}")
            yield Place(data, f"${VARIABLE}", shared=True)
        if not anybodys:
            yield Place(cache_folder() / self.name, "cache")
        for folder in self.system_folders:
            yield Place(Path(folder), "system")

    def _where(self, location: Location) -> str:
        """A location in words, fit to be printed."""
        return f"embedded in {self.embedded_in}" if location.layout == "embedded" else printable(str(location.folder))

    def _look(self, place: Place) -> Location | None:
        """What a place holds of this dataset."""
        if place.why == "embedded":
            return Location(place.folder, "embedded") if place.folder.is_dir() else None
        return self.locate(place) or self._locate_images(place)

    def _locate_images(self, place: Place) -> Location | None:
        there = folders.split_folders(place.folder)
        if not there or (place.shared and not self._recognizes(place.folder)):
            return None
        lacks = tuple(f"{split}/" for split in folders.SPLITS if split not in there)
        return Location(place.folder, "images", lacks)

    def _recognizes(self, folder: Path) -> bool:
        """Whether an image folder that is nobody's by name looks like this dataset."""
        if len(folders.split_folders(folder)) < len(folders.SPLITS):
            return False
        if self.num_classes is not None and len(folders.class_folders(folder / "train")) != self.num_classes:
            return False
        return self.input_shape is None or folders.first_image_shape(folder) == self.input_shape

    def _download(self, looked: list[str], progress: Progress | None) -> Location:
        def look(folder: Path) -> Location | None:
            return self._look(Place(folder, "cache"))

        def complete(folder: Path) -> bool:
            location = look(folder)
            return location is not None and not location.lacks

        try:
            location = look(install(self.name, lambda folder: self.fetch(folder, progress), complete))
        except DataError as error:
            raise DataError(self._absent(looked, f"Then {error}.\n")) from error
        if location is None:
            raise DataError(f"{self.name}: the download does not hold {self.layout}")
        return location

    def _wanted(self) -> str:
        """In words, what a folder must hold."""
        images = "an image folder {train,test}/<class>/<image>"
        if self.input_shape is not None:
            images += f" with {self.num_classes} classes of {'x'.join(map(str, self.input_shape))} images"
        return f"{self.layout}, or {images}" if self.layout else images

    def _absent(self, looked: list[str], then: str) -> str:
        if VARIABLE not in os.environ and self.embedded_in is None:
            looked = [*looked, f"(${VARIABLE} is not set)"]
        places = "".join(f"  {place}\n" for place in looked)
        return f"{self.name} was not found. Looked for {self._wanted()} in:\n{places}{then}To get it: {self.how_to_get}"


def _absolute(path: Path) -> Path:
    """An absolute path; `~` stands for itself where there is no such user."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        return Path(path).absolute()


def _is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that no file can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _package_folder(package: str) -> Path:
    """Where an installed package lies, found without importing it."""
    spec = find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return Path(locations[0]) if locations else Path(package)
