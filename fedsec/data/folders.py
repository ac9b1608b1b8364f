"""The shape of an image folder: {train,test}/<class>/<image>, listed before any image is opened."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedsec.data.image_files import SUFFIXES, is_image, shape_of
from fedsec.errors import DataError, printable

SPLITS = {"train": ("train",), "test": ("test", "val")}
"""Names of the folder of each split; the first that is there counts."""
_JUNK = ("desktop.ini", "thumbs.db")
"""What file managers leave behind, beside hidden files."""


@dataclass(frozen=True)
class Listing:
    """What an image folder holds, before any image is opened.

    Args:
        classes: names of the class folders in alphabetical order, the order of the labels; fit to be printed.
        files: for each split, each image's path and label, class by class and in alphabetical order.
        fingerprint: changes when a file appears, disappears, or changes in size or time.
        notes: what was passed over or taken for something else, a sentence each.
    """

    classes: tuple[str, ...]
    files: dict[str, list[tuple[str, int]]]
    fingerprint: str
    notes: tuple[str, ...] = ()


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that is there."""
    candidates = {split: [root / name for name in names] for split, names in SPLITS.items()}
    there = {split: next((path for path in paths if path.is_dir()), None) for split, paths in candidates.items()}
    return {split: path for split, path in there.items() if path is not None}


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders of one split in alphabetical order; hidden ones do not count.

    Raises:
        DataError: two names that look the same, one composed and one decomposed Unicode.
    """
    with os.scandir(folder) as entries:
        folders = [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
    names: dict[str, str] = {}
    for name in folders:
        other = names.setdefault(_form(name), name)
        if other != name:
            both = " and ".join(map(ascii, sorted((name, other))))
            raise DataError(f"{folder}: class folders {both} look the same (two Unicode forms); join or rename them")
    return [names[form] for form in sorted(names)]


def list_images(root: Path) -> Listing:
    """List an image folder.

    Raises:
        DataError: no class folders, training and test classes that differ, or a class without images.
        OSError: a folder that cannot be listed.
    """
    places = split_folders(root)
    names = {split: {_form(name): name for name in class_folders(places[split])} for split in SPLITS}
    for split, place in places.items():
        if not names[split]:
            raise DataError(f"{place} holds no class folders; expected {place.name}/<class>/<image>")
    if names["train"].keys() != names["test"].keys():
        one, other = (sorted(names[a].keys() - names[b].keys()) for a, b in (("train", "test"), ("test", "train")))
        test = places["test"].name
        raise DataError(
            f"{root}: train/ and {test}/ must hold the same classes; only in train/: {_some(one)}; only in {test}/: "
            f"{_some(other)}"
        )
    digest = hashlib.sha256(b"fedsec image folder 1")
    files: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    passed_over = _PassedOver(root)
    for split, place in places.items():
        passed_over.beside_classes(place)
        for label, name in enumerate(names[split].values()):
            images = passed_over.images(place / name)
            if not images:
                raise DataError(
                    f"class folder {place / name} holds no image; expected files ending in {', '.join(SUFFIXES)}"
                    f"{passed_over.inside(place / name)}"
                )
            for path, facts in images:
                entry = f"{split}\0{name}\0{Path(path).name}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
                digest.update(os.fsencode(entry))
                files[split].append((path, label))
    classes = tuple(printable(name) for name in names["train"])
    notes = [*passed_over.notes()]
    if places["test"].name != "test":
        notes.append(f"{root}: there is no test/; {places['test'].name}/ is taken for it")
    elif (root / "val").is_dir():
        notes.append(f"{root}: val/ is not used, test/ is")
    if any(names["train"][form] != names["test"][form] for form in names["train"]):
        notes.append(f"{root}: class folders of train/ and test/ whose names differ in Unicode form only are joined")
    return Listing(classes, files, digest.hexdigest(), tuple(printable(note) for note in notes))


def image_paths(root: Path) -> list[Path]:
    """Every image of a folder; none if it cannot be listed, which `list_images` explains."""
    try:
        return [Path(path) for images in list_images(root).files.values() for path, _ in images]
    except (OSError, DataError):
        return []


def first_image_shape(root: Path) -> tuple[int, int, int] | None:
    """(channels, height, width) of a folder's first training image, None if there is none to be read."""
    try:
        for name in class_folders(root / "train"):
            for entry in sorted(os.scandir(root / "train" / name), key=lambda entry: entry.name):
                if is_image(entry.name):
                    return shape_of(entry.path)
    except (OSError, DataError):
        pass
    return None


@dataclass
class _PassedOver:
    """Counts what lies in an image folder and is not read, with one example of each kind."""

    root: Path
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def images(self, folder: Path) -> list[tuple[str, os.stat_result]]:
        """Path and facts of a class folder's images in alphabetical order; everything else is counted."""
        images = []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            facts = _facts(entry)
            if _is_junk(entry.name):
                continue
            if facts is None:
                self._count("link(s) to nowhere", entry.path)
            elif stat.S_ISDIR(facts.st_mode):
                for path in _images_below(Path(entry.path)):
                    self._count("image(s) in folders inside class folders", path)
            elif not is_image(entry.name):
                self._count("file(s) that do not end like an image", entry.path)
            elif not stat.S_ISREG(facts.st_mode):
                self._count("pipe(s), device(s) or the like", entry.path)
            else:
                images.append((entry.path, facts))
        return images

    def beside_classes(self, place: Path) -> None:
        """Count the images that lie in a split's folder itself."""
        for entry in os.scandir(place):
            if is_image(entry.name) and not _is_folder(entry):
                self._count("image(s) outside of class folders", entry.path)

    def inside(self, folder: Path) -> str:
        """What was counted in a class folder without images, for the message about it."""
        within = [kind for kind, path in self.examples.items() if Path(path).is_relative_to(folder)]
        return f"; it holds {', '.join(f'{self.counts[kind]} {kind}' for kind in within)}" if within else ""

    def notes(self) -> Iterator[str]:
        """A sentence about each kind."""
        for kind, count in self.counts.items():
            example = Path(self.examples[kind]).relative_to(self.root)
            yield f"{self.root}: passed over {count} {kind}, such as {example}"

    def _count(self, kind: str, path: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.examples.setdefault(kind, path)


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    facts = _facts(entry)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def _facts(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """What an entry is, links followed; None if they lead nowhere or in a circle."""
    try:
        return entry.stat()
    except OSError:
        return None


def _images_below(folder: Path) -> Iterator[str]:
    for path, _, names in os.walk(folder):  # does not follow links, so it ends
        yield from (str(Path(path) / name) for name in sorted(names) if is_image(name))


def _some(names: list[str], limit: int = 5) -> str:
    """A few of the names, for a message."""
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
