"""What a curious server saw, image by image: the best, the median and the worst of many."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsec.report.evidence.image_tiles import Pixels, read_tiles
from fedsec.report.summary import SEED, Record, display

__all__ = ["ObservedImage", "old_pictures", "observed_images", "telling"]

_ROUND = re.compile(r"round-(\d+)")


@dataclass(frozen=True, eq=False)
class ObservedImage:
    """An image of a client, and what was recovered of it.

    Args:
        original: of the client.
        recovered: by the curious server.
        scores: `psnr`, `ssim`, `psnr_gray` and so on; `caption`, `label`, `label_right`.
        round: in which it was sent.
        client: by whom.
        seed: of its cell, as text; empty where seeds do not vary.
    """

    original: Pixels
    recovered: Pixels
    scores: dict[str, Any]
    round: int
    client: int
    seed: str

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, in dB."""
        return float(self.scores["psnr"])


def observed_images(root: Path, records: Sequence[Record]) -> list[ObservedImage]:
    """All images that were reconstructed in some cells, those that came closest first.

    Args:
        root: the run's folder.
        records: of the cells.
    """
    images = []
    for record in records:
        seed = display(record["cell"].get(SEED, ""))
        for folder in _folders(root, record):
            tiles = read_tiles(folder)
            if tiles is None:
                continue
            number, client = int(tiles.about["round"]), int(tiles.about["client"])
            rows = zip(tiles.originals, tiles.recovered, tiles.scores, strict=True)
            images += [
                ObservedImage(original, recovered, dict(scores), number, client, seed)
                for original, recovered, scores in rows
                if all(isinstance(scores.get(name), int | float) for name in ("psnr", "ssim"))
            ]
    return sorted(images, key=lambda image: -image.psnr)


def telling(images: Sequence[ObservedImage]) -> list[tuple[str, ObservedImage]]:
    """The best, the median and the worst of images that are sorted from best to worst; all of up to two."""
    if len(images) < 3:
        return list(zip(("best", "worst"), images, strict=False))
    return [("best", images[0]), ("median", images[len(images) // 2]), ("worst", images[-1])]


def old_pictures(root: Path, records: Sequence[Record]) -> list[tuple[Record, int, Path]]:
    """Pictures of rounds that have nothing else, as earlier versions left them: the cell, the round, the file."""
    return [
        (record, number, path)
        for record in records
        for folder in _folders(root, record)
        if read_tiles(folder) is None and (number := _number(folder)) is not None
        for path in sorted(folder.glob("reconstruction*.png"))
    ]


def _folders(root: Path, record: Record) -> list[Path]:
    return sorted((root / record["id"]).glob("leakage/round-*"))


def _number(folder: Path) -> int | None:
    name = _ROUND.fullmatch(folder.name)
    return None if name is None else int(name[1])
