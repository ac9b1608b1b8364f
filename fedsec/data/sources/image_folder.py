"""Anybody's own images."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data import decoded
from fedsec.data.sources.source import Source

if TYPE_CHECKING:
    from fedsec.data.dataset import Split


class ImageFolder(Source):
    """Own images in root/{train,test}/<class>/<image>; any size, all images of one shape, 8-bit gray or RGB.

    BMP, GIF, JPEG, PNG, PPM and PGM, TIFF and WebP, one picture a file; no other format is tried, whatever a file is
    called. Without test/, val/ is taken for it. Labels number the class folders in alphabetical order; two that look
    alike (composed and decomposed Unicode) are refused, or joined where train/ has one and test/ the other. Nothing is
    resized, and nothing cut to 8 bits. What else lies there (other files, images in deeper folders, links to nowhere)
    is counted and said. The pixels of a large folder are kept in the user's cache, and used again as long as no file
    changes in name, size or time.
    """

    name = "image_folder"
    layout = ""
    how_to_get = (
        "name its folder in the scenario (dataset.root), or put it at $FEDSEC_DATA/image_folder; it must hold "
        "train/<class>/<image> and test/<class>/<image>"
    )

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        train, test, classes, _ = decoded.read_splits(folder)
        return train, test, classes
