"""Image folders as pixels, decoded once and kept if they are large."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data.cache import cache_folder
from fedsec.data.folders import SPLITS, Listing, list_images
from fedsec.data.image_files import decode_all
from fedsec.errors import DataError
from fedsec.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from fedsec.data.dataset import Split

CACHED_FROM = 2_000  # images; fewer decode faster than one would notice


def read_splits(root: Path) -> "tuple[Split, Split, tuple[str, ...], tuple[str, ...]]":
    """Training split, test split, class names and notes of an image folder.

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
    return train, test, listing.classes, listing.notes


def _pixels(root: Path, listing: Listing) -> dict[str, "np.ndarray"]:
    """The pixels of both splits, uint8 [images, channels, height, width]; of a large folder, kept in the cache."""
    number = sum(map(len, listing.files.values()))
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
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
        with replacing(path) as partial:
            save_file(pixels, partial, metadata={"fingerprint": listing.fingerprint})
    except OSError:
        pass
