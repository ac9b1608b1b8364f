"""Image folders: {train,test}/<class>/<image>, decoded once and kept."""

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data.cache import cache_folder
from fedsec.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from fedsec.data.dataset import Split

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLITS = ("train", "test")
CACHED_FROM = 2_000  # images; fewer decode faster than one would notice
_CHUNK = 256
_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3}


@dataclass(frozen=True)
class Listing:
    """What an image folder holds, before any image is opened.

    Args:
        classes: names of the class folders in alphabetical order, the order of the labels.
        files: for each split, each image's path and label, class by class and in alphabetical order.
        fingerprint: changes when a file appears, disappears, or changes in size or time.
    """

    classes: tuple[str, ...]
    files: dict[str, list[tuple[str, int]]]
    fingerprint: str


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders of one split in alphabetical order; hidden ones do not count."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def list_images(root: Path) -> Listing:
    """List an image folder.

    Raises:
        DataError: no class folders, training and test classes that differ, or a class without images.
    """
    names = {split: class_folders(root / split) for split in SPLITS}
    for split in SPLITS:
        if not names[split]:
            raise DataError(f"{root / split} holds no class folders; expected {split}/<class>/<image>")
    if names["train"] != names["test"]:
        only = [sorted(set(names[split]) - set(names[other])) for split, other in (SPLITS, SPLITS[::-1])]
        raise DataError(
            f"{root}: train/ and test/ must hold the same classes; only in train/: {_some(only[0])}; "
            f"only in test/: {_some(only[1])}"
        )
    digest = hashlib.sha256(b"fedsec image folder 1")
    files: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for label, name in enumerate(names[split]):
            images = sorted(
                (entry for entry in os.scandir(root / split / name) if is_image(entry.name) and entry.is_file()),
                key=lambda entry: entry.name,
            )
            if not images:
                raise DataError(
                    f"class folder {root / split / name} holds no image; expected files ending in {', '.join(SUFFIXES)}"
                )
            for entry in images:
                facts = entry.stat()
                digest.update(f"{split}\0{name}\0{entry.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
                files[split].append((entry.path, label))
    return Listing(tuple(names["train"]), files, digest.hexdigest())


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image; others (notes, thumbnails' databases) are passed over."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def first_image_shape(root: Path) -> tuple[int, int, int] | None:
    """(channels, height, width) of a folder's first training image, None if there is none to be read."""
    try:
        for name in class_folders(root / "train"):
            for entry in sorted(os.scandir(root / "train" / name), key=lambda entry: entry.name):
                if is_image(entry.name):
                    with open_image(entry.path) as image:
                        return _CHANNELS[image.mode], image.height, image.width
    except (OSError, DataError):
        pass
    return None


def open_image(path: str) -> "Image":
    """Open an image whose pixels are 8-bit gray or RGB (or stand for such: black and white, a palette).

    Raises:
        DataError: not a readable image, or of another kind, whose conversion would lose something silently.
    """
    from PIL import Image

    try:
        image = Image.open(path)
    except Exception as error:  # Parsers of malformed files raise all kinds of things.
        raise DataError(f"unreadable image {path}: {error}") from error
    if image.mode not in _CHANNELS:
        image.close()
        raise DataError(f"image {path} has pixels of kind {image.mode!r}; expected 8-bit gray or RGB")
    return image


def decode(path: str) -> "np.ndarray":
    """One image's pixels, uint8 [channels, height, width].

    Raises:
        DataError: see `open_image`.
    """
    import numpy as np

    with open_image(path) as image:
        try:
            pixels = np.asarray(image.convert("L" if _CHANNELS[image.mode] == 1 else "RGB"))
        except Exception as error:  # As above: a file may open and then turn out to be truncated or corrupt.
            raise DataError(f"unreadable image {path}: {error}") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def decode_all(paths: list[str]) -> "np.ndarray":
    """Pixels of many images of one shape, uint8 [images, channels, height, width].

    Raises:
        DataError: an unreadable image, or one whose shape differs from the first one's.
    """
    import numpy as np

    first = decode(paths[0])
    pixels = np.empty((len(paths), *first.shape), np.uint8)

    def decode_chunk(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(paths))):
            image = decode(paths[index])
            if image.shape != first.shape:
                raise DataError(
                    f"images must all have one shape (nothing is resized silently): {paths[0]} is "
                    f"{'x'.join(map(str, first.shape))}, {paths[index]} is {'x'.join(map(str, image.shape))} "
                    "(channels x height x width)"
                )
            pixels[index] = image

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            list(pool.map(decode_chunk, range(0, len(paths), _CHUNK)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return pixels


def read_splits(root: Path) -> "tuple[Split, Split, tuple[str, ...]]":
    """Training split, test split and class names of an image folder.

    Raises:
        DataError: see `list_images` and `decode_all`.
    """
    import torch

    from fedsec.data.dataset import Split

    try:
        listing = list_images(root)
    except OSError as error:
        raise DataError(f"cannot list image folder {root}: {error}") from error
    pixels = _pixels(root, listing)
    train, test = (
        Split(torch.from_numpy(pixels[split]), torch.tensor([label for _, label in listing.files[split]]))
        for split in SPLITS
    )
    return train, test, listing.classes


def _pixels(root: Path, listing: Listing) -> dict[str, "np.ndarray"]:
    """The pixels of both splits, uint8 [images, channels, height, width]; of a large folder, kept in the cache."""
    number = sum(map(len, listing.files.values()))
    key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    cached = cache_folder() / "decoded" / f"{key}.safetensors"
    pixels = _load_decoded(cached, listing) if number >= CACHED_FROM else None
    if pixels is None:
        pixels = {split: decode_all([path for path, _ in listing.files[split]]) for split in SPLITS}
        if number >= CACHED_FROM:
            _save_decoded(cached, listing, pixels)
    return pixels


def _load_decoded(path: Path, listing: Listing) -> dict[str, "np.ndarray"] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            if (file.metadata() or {}).get("fingerprint") != listing.fingerprint:
                return None
            return {split: file.get_tensor(split) for split in SPLITS}
    except (OSError, SafetensorError):
        return None


def _save_decoded(path: Path, listing: Listing, pixels: dict[str, "np.ndarray"]) -> None:
    """Keep decoded pixels; a cache that cannot be written costs time, not correctness."""
    from safetensors.numpy import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
            partial = Path(folder) / path.name
            save_file(pixels, partial, metadata={"fingerprint": listing.fingerprint})
            partial.replace(path)
    except OSError:
        pass


def _some(names: list[str], limit: int = 5) -> str:
    """A few of the names, for a message."""
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
